"""How tight the bounds are: how far the known mistakes are outside, and right answers inside."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles

import numpy as np

from conformance.arithmetic.running import UNIT_ROUNDOFF
from conformance.core.bounds import departure
from conformance.core.implementations import PROMISES
from conformance.core.questions import AnyCase, Case, GradientQuestion
from conformance.core.verdict import promised
from conformance.gradient_mean.diagnosis import wrong_answers
from conformance.gradient_mean.parts import ByRank, Gradients, Work
from conformance.run.goldens import make, tier_of
from conformance.run.results import Record

# An answer this near to the right one, in units of roundoff, has the right value, computed
# otherwise: no bound can tell it, and none should.
_ROUNDING = 64


@dataclass(frozen=True)
class Margin:
    """How far a mistake is outside the bound of a case, where its answer has another value.

    `error_over_bound` is the least of its answers: at most 1 means that the case lets it through.
    """

    mistake: str
    case: str
    promise: str
    error_over_bound: float

    @property
    def is_hidden(self) -> bool:
        """Whether the bound is so loose that the mistake passes."""
        return self.error_over_bound <= 1


@dataclass(frozen=True)
class Spread:
    """Error ÷ bound of right answers: how many, the deciles' middle and last, and the largest."""

    count: int
    median: float
    ninth: float
    largest: float
    where: str


def margins(cases: Iterable[AnyCase]) -> list[Margin]:
    """One for each mistake that gives another value on a bounded case, under each promise."""
    bounded = (case for case in cases if tier_of(case) == "bounded")
    return [
        margin
        for case in bounded
        for promise in case.promises or PROMISES[case.operation]
        for margin in _margins(case, promise)
    ]


def _margins(case: Case[GradientQuestion], promise: str) -> Iterable[Margin]:
    golden = make(case)
    expected, bounds = promised(golden.answers, promise), promised(golden.bounds, promise)
    work = Work(case.question, golden.inputs, promise)
    unit = _ROUNDING * UNIT_ROUNDOFF[case.question.dtype]
    for mistake, alternatives in wrong_answers(work, case.question.world_size):
        ratios = [
            max(departure(given, expected, bounds)[1] for given in by_rank)
            for by_rank in alternatives
            if _has_another_value(by_rank, expected, unit)
        ]
        if ratios:
            yield Margin(mistake.name, case.id, promise, min(ratios))


def _has_another_value(by_rank: ByRank, expected: Gradients, unit: float) -> bool:
    return any(
        np.abs(given[name].astype(np.float64) - right.astype(np.float64)).max(initial=0)
        > unit * np.abs(right.astype(np.float64)).max(initial=0)
        for given in by_rank
        for name, right in expected.items()
    )


def spread(records: Sequence[Record]) -> Spread | None:
    """Error ÷ bound over the checks of a run that are within theirs; None where there are none.

    A file may say `within-bound` of a ratio that is none: that is left out.
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
