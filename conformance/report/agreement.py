"""Who gave the same bits: every case, across all implementations and devices of a run."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from conformance.results import Record, Run


@dataclass(frozen=True)
class Agreement:
    """One case: the implementations that answered, by the answer they gave.

    `answers` holds tuples of `implementation@device`, the largest first. Within one answer every
    bit is the same.
    """

    operation: str
    case: str
    answers: tuple[tuple[str, ...], ...]

    @property
    def everyone_agrees(self) -> bool:
        """Whether all answers were the same bits."""
        return len(self.answers) <= 1

    @property
    def words(self) -> str:
        """The case in one line."""
        count = sum(map(len, self.answers))
        name = f"{self.operation}:{self.case}"
        if count == 0:
            return f"{name}: nobody answered"
        if count == 1:
            return f"{name}: one answer ({self.answers[0][0]}), nothing to compare"
        if self.everyone_agrees:
            return f"{name}: all {count} answers are the same bits"
        most, *others = self.answers
        differ = "; ".join(", ".join(group) for group in others)
        return f"{name}: {len(most)} of {count} answers are the same bits; differing: {differ}"


def agreements(records: Iterable[Record]) -> tuple[Agreement, ...]:
    """One entry a case, in the order in which the cases were first met."""
    by_case: dict[tuple[str, str], dict[str, list[str]]] = {}
    for record in records:
        answers = by_case.setdefault((record.operation, record.case), {})
        if record.answer is not None:
            who = f"{record.implementation}@{record.device}"
            answers.setdefault(record.answer, []).append(who)
    return tuple(
        Agreement(
            operation,
            case,
            tuple(sorted((tuple(sorted(g)) for g in answers.values()), key=lambda g: (-len(g), g))),
        )
        for (operation, case), answers in by_case.items()
    )


def write(run: Run, folder: Path) -> None:
    """Put one line a case into DIR/agreement.txt."""
    lines = [one.words for one in agreements(run.records)]
    (folder / "agreement.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
