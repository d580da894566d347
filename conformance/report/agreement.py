"""Who gave the same bits: every exact case, across all implementations, devices and runs.

Those who promise the same mean owe the same bits: where shards are unequal, the mean of ranks is
not that of samples.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from conformance.report.comparison import labels
from conformance.run.results import Record, Run


@dataclass(frozen=True)
class Agreement:
    """One case: the implementations that answered, by the answer they gave.

    `promise` is empty where all owe one answer. `answers` holds tuples of `implementation@device`
    (and the run, in a merge), the largest first. Within one answer every bit is the same.
    """

    operation: str
    case: str
    promise: str
    answers: tuple[tuple[str, ...], ...]

    @property
    def count(self) -> int:
        """How many answers there are."""
        return sum(map(len, self.answers))

    @property
    def everyone_agrees(self) -> bool:
        """Whether all answers were the same bits."""
        return len(self.answers) <= 1

    @property
    def words(self) -> str:
        """The case in one line."""
        count = self.count
        name = f"{self.operation}:{self.case}{self.promise and f' ({self.promise})'}"
        if count == 0:
            return f"{name}: nobody answered"
        if count == 1:
            return f"{name}: one answer ({self.answers[0][0]}), nothing to compare"
        if self.everyone_agrees:
            return f"{name}: all {count} answers are the same bits"
        most, *others = self.answers
        differ = "; ".join(", ".join(group) for group in others)
        return f"{name}: {len(most)} of {count} answers are the same bits; differing: {differ}"


_BY_PROMISE = frozenset({"gradient_mean"})


def agreements(
    records: Iterable[Record], runs: Mapping[str, str] = MappingProxyType({})
) -> tuple[Agreement, ...]:
    """Returns one entry a case and promise, in the order in which they were first met.

    `runs` has a short label for each run of a merge.
    """
    by_case: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for record in records:
        if record.status == "within-bound":  # Where sums round, nobody owes the same bits.
            continue
        promise = record.promise if record.operation in _BY_PROMISE else ""
        answers = by_case.setdefault((record.operation, record.case, promise), {})
        if record.answer is not None:
            label = f" {runs[record.run]}" if record.run in runs else ""
            who = f"{record.implementation}@{record.device}{label}"
            answers.setdefault(record.answer, []).append(who)
    return tuple(
        Agreement(
            operation,
            case,
            promise,
            tuple(sorted((tuple(sorted(g)) for g in answers.values()), key=lambda g: (-len(g), g))),
        )
        for (operation, case, promise), answers in by_case.items()
    )


def parted(records: Iterable[Record]) -> tuple[list[str], list[str]]:
    """Returns the cases whose mean of ranks is their mean of samples, and those where it is not."""
    means: dict[str, dict[str, set[str]]] = {}
    for record in records:
        if record.promise in ("rank_mean", "sample_mean") and record.status == "exact":
            by_promise = means.setdefault(record.case, {"rank_mean": set(), "sample_mean": set()})
            by_promise[record.promise].add(record.answer or "")
    both = {case: answers for case, answers in means.items() if all(answers.values())}
    same = [
        case for case, answers in both.items() if answers["rank_mean"] == answers["sample_mean"]
    ]
    return same, [case for case in both if case not in same]


def of(run: Run) -> tuple[Agreement, ...]:
    """Returns the agreements of a run, or of all the runs of a merge."""
    return agreements(run.records, labels(run) if len(run.runs) > 1 else {})
