"""Who averages what: each implementation of the gradient mean, its promise, and how it did."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from conformance.core.declarations import PROMISES, averaged
from conformance.core.questions import GradientQuestion
from conformance.core.verdict import ASIDE, RIGHT
from conformance.run.results import Record, Run
from conformance.subjects import all_cases


@dataclass(frozen=True)
class Tally:
    """How many checks of a kind came out right, of how many that were tested."""

    right: int
    asked: int

    def __str__(self) -> str:
        """Writes `·` for nothing, `8` for all, `8 of 9` for some."""
        if not self.asked:
            return "·"
        return str(self.right) if self.right == self.asked else f"{self.right} of {self.asked}"


@dataclass(frozen=True)
class Row:
    """How the checks of one implementation came out.

    Attributes:
        owner: `implementation@device`.
        promise: what the implementation is held to.
        equal, unequal, accumulated: checks of equal shards, of unequal ones, and of several
            micro-batches (which are among the others too).
        milliseconds: the median time of its checks.
    """

    owner: str
    promise: str
    equal: Tally
    unequal: Tally
    accumulated: Tally
    milliseconds: float


def rows(run: Run) -> list[Row]:
    """Returns a row for each implementation that was asked for averages, by promise and name."""
    questions = {case.name: case.question for case in all_cases() if case.kind == "average"}
    by_owner: dict[tuple[str, str], list[Record]] = {}
    for record in run.records:
        if record.operation == "gradient_mean" and record.case in questions:
            owner = f"{record.implementation}@{record.device}"
            by_owner.setdefault((record.promise, owner), []).append(record)

    def row(promise: str, owner: str, records: list[Record]) -> Row:
        of = {record.id: questions[record.case] for record in records}
        return Row(
            owner,
            promise,
            equal=_tally(r for r in records if not _is_uneven(of[r.id])),
            unequal=_tally(r for r in records if _is_uneven(of[r.id])),
            accumulated=_tally(r for r in records if of[r.id].micro_batches > 1),
            milliseconds=1000 * median(record.seconds for record in records),
        )

    adding = PROMISES["gradient_mean"]
    order = {promise: place for place, promise in enumerate((*adding, *map(averaged, adding)))}
    return [
        row(promise, owner, records)
        for (promise, owner), records in sorted(
            by_owner.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0][1])
        )
    ]


def _is_uneven(question: GradientQuestion) -> bool:
    return any(len(set(shards)) > 1 for shards in question.shards)


def _tally(records: Iterable[Record]) -> Tally:
    asked = [r for r in records if r.status not in ASIDE]
    return Tally(sum(r.status in RIGHT for r in asked), len(asked))
