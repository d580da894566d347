"""How much of their bounds the right answers of a run take."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from conformance.run.results import Record


@dataclass(frozen=True)
class Spread:
    """Error ÷ bound of right answers: count, median, ninth decile, the largest and its check."""

    count: int
    median: float
    ninth: float
    largest: float
    where: str


def spread(records: Sequence[Record]) -> Spread | None:
    """Measures error ÷ bound over the checks that are within theirs; None where there are none.

    A file may say `within-bound` and have no ratio: that check is left out.
    """
    inside = [
        (record.error_over_bound, record.id)
        for record in records
        if record.status == "within-bound"
        and record.error_over_bound is not None
        and 0 <= record.error_over_bound <= 1
    ]
    if not inside:
        return None
    ratios = [ratio for ratio, _ in inside]
    deciles = quantiles(ratios, n=10, method="inclusive") if len(ratios) > 1 else ratios * 9
    largest, where = max(inside)
    return Spread(len(inside), deciles[4], deciles[8], largest, where)
