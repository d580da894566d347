"""What may be promised of weights, as formulas.

A promise that speaks of ranks leaves open what happens to micro-batches: they may add up, be
averaged, or be one long batch of the rank. Each way is a formula, and one of them must fit.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from conformance.core.outcomes import UsageError
from conformance.core.weight_formula import powers_of
from conformance.weighing.formula import Cell, Formula

MicroBatches = Literal["sum", "mean"]

_ONE_BATCH: Mapping[str, Formula] = {
    "rank_mean": Formula({"W": -1, "n_r": -1}),
    "sample_mean": Formula({"N": -1}),
    "rank_sum": Formula({"n_r": -1}),
}
_ADDED: Mapping[str, Formula] = {
    "rank_mean": Formula({"W": -1, "n_rk": -1}),
    "sample_mean": Formula({"n_k": -1}),
    "rank_sum": Formula({"n_rk": -1}),
}
_AVERAGED: Mapping[str, Formula] = {
    "rank_mean": Formula({"W": -1, "K": -1, "n_rk": -1}),
    "sample_mean": Formula({"K": -1, "n_k": -1}),
    "rank_sum": Formula({"K": -1, "n_rk": -1}),
}
STEP_MEAN = Formula({"N": -1})
PROMISES = ("rank_mean", "sample_mean", "step_mean", "rank_sum")


def formulas(promise: str, micro_batches: MicroBatches | None = None) -> tuple[Formula, ...]:
    """Return the formulas of which one must fit.

    Args:
        promise: rank_mean, sample_mean, step_mean or rank_sum; or a formula, as in "1/(W*K*n)".
        micro_batches: whether micro-batches add up or are averaged; either, where it is None.

    Raises:
        ValueError: if there is no such promise.
    """
    if promise == "step_mean":
        return (STEP_MEAN,)
    if promise not in PROMISES:
        try:
            return (Formula(*powers_of(promise)),)
        except UsageError as error:
            raise ValueError(
                f"a promise is one of {', '.join(PROMISES)}, or a formula: {error}"
            ) from None
    if micro_batches == "sum":
        return (_ADDED[promise],)
    if micro_batches == "mean":
        return (_AVERAGED[promise],)
    return (_ONE_BATCH[promise], _AVERAGED[promise], _ADDED[promise])


def kept(cells: Sequence[Cell], world: int) -> tuple[str, ...]:
    """Return the promises that weights keep."""
    return tuple(
        promise
        for promise in PROMISES
        if any(formula.fits(cells, world) for formula in formulas(promise))
    )
