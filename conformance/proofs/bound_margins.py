"""Margins of bounds: how far outside its bound each known mistake is on every bounded case."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from conformance.arithmetic.running import UNIT_ROUNDOFF
from conformance.core.bounds import departure
from conformance.core.checks import promises_of
from conformance.core.questions import AnyCase, Case, GradientQuestion
from conformance.gradient_mean.diagnosis import answers_of_mistakes
from conformance.gradient_mean.parts import ByRank, Gradients, Parts
from conformance.gradient_mean.solve import solve
from conformance.gradient_mean.verdict import promised

# An answer that is this near to the right answer, in units of roundoff, has the right value,
# computed otherwise: no bound can exclude it, and none should.
_ROUNDING = 64


@dataclass(frozen=True)
class Margin:
    """The margin by which a mistake is outside the bound of a case, where its value differs.

    `error_over_bound` is the least of the mistake's answers; if at most 1, the mistake passes.
    """

    mistake: str
    case: str
    promise: str
    error_over_bound: float

    @property
    def is_hidden(self) -> bool:
        """Says whether the bound is so loose that the mistake passes."""
        return self.error_over_bound <= 1


def margins(cases: Iterable[AnyCase]) -> list[Margin]:
    """Measures each mistake that gives another value on a bounded case, under each promise."""
    bounded = (case for case in cases if case.tier == "bounded")
    return [
        margin
        for case in bounded
        for promise in promises_of(case)
        for margin in _margins(case, promise)
    ]


def _margins(case: Case[GradientQuestion], promise: str) -> Iterable[Margin]:
    golden = solve(case)
    expected, bounds = promised(golden.answers, promise), promised(golden.bounds, promise)
    parts = Parts(case.question, golden.inputs, promise)
    unit = _ROUNDING * UNIT_ROUNDOFF[case.question.dtype]
    for mistake, alternatives in answers_of_mistakes(parts, case.question.world_size):
        ratios = [
            max(departure(answer, expected, bounds)[1] for answer in by_rank)
            for by_rank in alternatives
            if _has_another_value(by_rank, expected, unit)
        ]
        if ratios:
            yield Margin(mistake.name, case.id, promise, min(ratios))


def _has_another_value(by_rank: ByRank, expected: Gradients, unit: float) -> bool:
    return any(
        np.abs(answer[name].astype(np.float64) - right.astype(np.float64)).max(initial=0)
        > unit * np.abs(right.astype(np.float64)).max(initial=0)
        for answer in by_rank
        for name, right in expected.items()
    )
