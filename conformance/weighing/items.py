"""Each item's own weight, from the gradients of all items' losses: one column an item."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from conformance.weighing.mistakes import words
from conformance.weighing.solve import Rounding, Solution, solve, sum_error
from conformance.weighing.weights import Weights


@dataclass(frozen=True, eq=False)
class Asked:
    """What a function was asked, and what it gave.

    Attributes:
        columns: (items, parameters), the gradient of each item's loss.
        gradients: (1 or W, parameters), what the function gave, or each rank's.
        shape: of the losses.
        ranks: (items), to which rank an item belongs.
        micro_batches: (items), to which micro-batch.
        world: W.
        unit: the unit roundoff of the gradients' dtype.
        measured: the distance of two ways to compute one weighted sum of the columns: what this
            model's backward pass rounds.
    """

    columns: np.ndarray
    gradients: np.ndarray
    shape: tuple[int, ...]
    ranks: np.ndarray
    micro_batches: np.ndarray
    world: int
    unit: float
    measured: float = 0.0


def solutions(asked: Asked) -> list[Solution]:
    """Solve for the weights of every gradient that was given."""
    vectors = np.concatenate([asked.columns, asked.gradients]).astype(np.float64)
    gram = vectors @ vectors.T
    items, elements = asked.columns.shape
    rounding = Rounding(asked.unit, items + asked.world + 4, sum_error(elements))
    return [solve(gram, items, items + g, rounding) for g in range(len(asked.gradients))]


def weights(asked: Asked) -> Weights:
    """Return the weights of the items, and what is wrong with them whatever is promised."""
    solved = solutions(asked)
    first = solved[0]
    is_item = np.any(asked.columns != 0, axis=1)
    values = np.where(is_item, np.nan_to_num(first.values), 0.0)
    # The columns are computed apart from the function's own pass: what that rounds is measured.
    extra = [asked.measured / (s.norm or 1.0) for s in solved]
    half = np.where(is_item, first.half * max(1.0, extra[0] / max(first.rounding, 2.0**-60)), 0.0)
    faults: list[str] = []
    for rank, (solution, more) in enumerate(zip(solved, extra, strict=True)):
        allowed = solution.rounding + more * (len(asked.columns) + asked.world + 4)
        if solution.residual > allowed:
            whose = f" of rank {rank}" if len(solved) > 1 else ""
            faults += fault(
                "no-weighted-sum",
                f"{solution.residual:.2g} of the gradient{whose} is no weighted sum of the items' "
                f"gradients; rounding can make {allowed:.2g}",
            )
            break
    if len(solved) > 1 and not np.array_equal(
        asked.gradients, asked.gradients[:1].repeat(len(solved), 0)
    ):
        faults += _apart(asked, solved, is_item)
    low, high = (np.where(is_item, values + sign * half, 0.0) for sign in (-1, 1))
    low, high = np.nextafter(low, -inf), np.nextafter(high, inf)
    result = Weights.of(
        values.reshape(asked.shape),
        world=asked.world,
        ranks=asked.ranks.reshape(asked.shape),
        micro_batches=asked.micro_batches.reshape(asked.shape),
        is_item=is_item.reshape(asked.shape),
        counts={} if is_item.all() else {"p": _places(asked)},
        residual=first.residual,
        condition=first.condition,
        faults=tuple(faults),
    )
    return replace(result, low=low.reshape(asked.shape), high=high.reshape(asked.shape))


def _places(asked: Asked) -> dict[tuple[int, int, int], int]:
    """Count the places of each rank's micro-batches, those of masked items included."""
    pairs = zip(asked.ranks.tolist(), asked.micro_batches.tolist(), strict=True)
    return dict(Counter((0, rank, micro_batch) for rank, micro_batch in pairs))


def _apart(asked: Asked, solved: Sequence[Solution], is_item: np.ndarray) -> list[str]:
    """Name ranks whose gradients have other weights; differences in rounding are none."""
    low = np.max([s.values - s.half for s in solved], axis=0)
    high = np.min([s.values + s.half for s in solved], axis=0)
    known = is_item & np.isfinite(low) & np.isfinite(high)
    if not (low > high)[known].any():
        return []
    own = True
    times = set()
    for rank, solution in enumerate(solved):
        mine = asked.ranks == rank
        counts = np.abs(solution.values) > solution.half
        own &= not counts[known & ~mine].any() and bool(counts[known & mine].all())
        share = solution.values[known & mine] * (known & mine).sum()
        times |= set(np.round(share, 3).tolist())
    if own and times == {float(asked.world)}:
        return fault("psum-loss-unsynchronised", "every rank's gradient is W times its own")
    if own:
        return fault("never-synchronised", "every rank's gradient is of its own items alone")
    return fault("ranks-disagree", "the ranks' gradients have different weights")


def fault(name: str, sentence: str) -> list[str]:
    """Return a fault of weights: its name, what is so, and what to write instead."""
    advice = words(name).advice
    return [f"{name}: {sentence}" + (f"\n    write: {advice}" if advice else "")]
