"""Each item's own weight, from the gradients of all items' losses: one column an item."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from conformance.weighing.asked import Asked, narrow_unit, solutions
from conformance.weighing.item_faults import apart, clipped_early, fault, of_parts
from conformance.weighing.naming import constant_factor
from conformance.weighing.promises import PROMISES, formulas
from conformance.weighing.solve import norm_rounding
from conformance.weighing.weights import Weights

_ELSEWHERE = (1.125, 1.25, 0.875)  # times the parameters: near, where gradients are clipped as well


def weights(asked: Asked) -> Weights:
    """Return the weights of the items, and what is wrong with them whatever is promised."""
    is_item = np.any(asked.columns != 0, axis=1)
    if not asked.is_finite:
        return _unknown(asked, is_item)
    solved = solutions(asked)
    # The columns are computed apart from the function's own pass: what that rounds is measured.
    extra = [asked.measured / (s.norm or 1.0) for s in solved]
    allowed = [
        solution.rounding + more * (len(asked.columns) + asked.world + 4)
        for solution, more in zip(solved, extra, strict=True)
    ]
    faults: list[str] = []
    over = [r for r, solution in enumerate(solved) if solution.residual > allowed[r]]
    whole = solved
    narrow = narrow_unit(asked.gradients) if over else 0.0
    if narrow > asked.unit:
        return weights(replace(asked, unit=narrow))
    if over:
        solved, faults = of_parts(asked, solved, is_item)
    if over and not faults:
        rank, whose = over[0], f" of rank {over[0]}" if len(solved) > 1 else ""
        faults += fault(
            "no-weighted-sum",
            f"{whole[rank].residual:.2g} of the gradient{whose} is no weighted sum of the items' "
            f"gradients; rounding can make {allowed[rank]:.2g}",
        )
    if len(solved) > 1 and not np.array_equal(
        asked.gradients, asked.gradients[:1].repeat(len(solved), 0)
    ):
        faults += apart(asked, solved, is_item)
    first = solved[0]
    values = np.where(is_item, np.nan_to_num(first.values), 0.0)
    known = max(first.rounding, first.residual, 2.0**-60)
    half = np.where(is_item, first.half * (1 + extra[0] / known), 0.0)
    low, high = (np.where(is_item, values + sign * half, 0.0) for sign in (-1, 1))
    low, high = np.nextafter(low, -inf), np.nextafter(high, inf)
    result = Weights.of(
        values.reshape(asked.shape),
        world=asked.world,
        ranks=asked.ranks.reshape(asked.shape),
        micro_batches=asked.micro_batches.reshape(asked.shape),
        is_item=is_item.reshape(asked.shape),
        counts=_counts(asked, is_item),
        residual=first.residual,
        condition=first.condition,
        faults=tuple(faults),
    )
    result = replace(result, low=low.reshape(asked.shape), high=high.reshape(asked.shape))
    if not faults and (result.reading.simplest is None or result.reading.simplest.factor != 1):
        result = replace(result, faults=tuple(clipped_early(asked, values, half, is_item)))
    return result


def _unknown(asked: Asked, is_item: np.ndarray) -> Weights:
    """Return weights of which nothing is known: what is not finite has no sum."""
    whose = "the gradient" if np.isfinite(asked.columns).all() else "the gradient of an item's loss"
    return Weights.of(
        np.zeros(asked.shape),
        half=inf,
        world=asked.world,
        ranks=asked.ranks.reshape(asked.shape),
        micro_batches=asked.micro_batches.reshape(asked.shape),
        is_item=is_item.reshape(asked.shape),
        faults=(f"not-exercised: {whose} is not finite",),
    )


def weights_but_for_a_clip(again: Callable[[float], Asked]) -> Weights:
    """Return the weights, and know a clip of the gradient by other parameters.

    A clip gives one norm to gradients of different norms; a factor of the loss does not change.

    Args:
        again: what the function gives where each parameter is multiplied by a number.
    """
    asked = again(1.0)
    result = weights(asked)
    if result.faults or result.promises:
        return result
    wanted = {str(formula): formula for each in PROMISES for formula in formulas(each)}
    known = {
        name: factor
        for name, formula in wanted.items()
        if (factor := constant_factor(result.cells, result.world, formula.powers))
        and 0 < factor[0] < 1
    }
    norm = float(np.linalg.norm(asked.gradients[0]))
    off = norm_rounding(asked.gradients.shape[1])
    for times in _ELSEWHERE if known else ():
        there = again(times)
        if abs(float(np.linalg.norm(there.gradients[0])) - norm) > 2 * off * norm:
            continue
        cells = weights(there).cells
        for name, (low, high) in known.items():
            other = constant_factor(cells, result.world, wanted[name].powers)
            if other and (high < other[0] or other[1] < low):
                return replace(result, is_clipped=True)
    return result


def _counts(asked: Asked, is_item: np.ndarray) -> dict[str, dict[tuple[int, int, int], int]]:
    """Count what there is beside the items of each rank's micro-batches.

    Places are counted with those that are masked; of tokens the sequences that they are of, and the
    labels before a shift, of which each sequence has one more.
    """
    places = list(zip(asked.ranks.tolist(), asked.micro_batches.tolist(), strict=True))
    counts = {}
    if not is_item.all():
        counts["p"] = {(0, *place): count for place, count in Counter(places).items()}
    if asked.rows is not None:
        samples = Counter(p for p, _ in set(zip(places, asked.rows.tolist(), strict=True)))
        items = Counter(place for place, is_one in zip(places, is_item, strict=True) if is_one)
        counts["s"] = {(0, *place): samples[place] for place in set(places)}
        counts["m"] = {(0, *place): items[place] + samples[place] for place in set(places)}
    return counts


def rows_of(shape: tuple[int, ...], *axes: Any) -> np.ndarray | None:
    """Return the sequence that each place of losses belongs to; None where places are samples.

    Args:
        shape: of the losses.
        axes: that count ranks or micro-batches; what is no axis is left out.
    """
    own = {axis % len(shape) for axis in axes if isinstance(axis, int)}
    if len(shape) - len(own) < 2:
        return None
    last = max(axis for axis in range(len(shape)) if axis not in own)
    rows = np.arange(int(np.prod(shape))).reshape(shape)
    return np.broadcast_to(rows.take([0], axis=last), shape).reshape(-1)
