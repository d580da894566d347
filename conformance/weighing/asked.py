"""What a function that returns gradients was asked, and the weights that solve its answer."""

from dataclasses import dataclass

import numpy as np

from conformance.weighing.solve import Rounding, Solution, solve, sum_error


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
        leaves: the parameters' names and sizes, in the order of the gradients.
        rows: (items), the sequence that an item is a token of; None where items are samples.
    """

    columns: np.ndarray
    gradients: np.ndarray
    shape: tuple[int, ...]
    ranks: np.ndarray
    micro_batches: np.ndarray
    world: int
    unit: float
    measured: float = 0.0
    leaves: tuple[tuple[str, int], ...] = ()
    rows: np.ndarray | None = None

    @property
    def is_finite(self) -> bool:
        """Whether all gradients are; of others there is no sum."""
        return bool(np.isfinite(self.columns).all() and np.isfinite(self.gradients).all())


def narrow_unit(gradients: np.ndarray) -> float:
    """Return the unit roundoff of the narrow dtype that all values fit into to the bit, or 0."""
    wide = gradients.astype(np.float32)
    with np.errstate(over="ignore"):
        if np.array_equal(wide.astype(np.float16), wide):
            return 2.0**-11
    return 0.0 if (wide.view(np.uint32) & 0xFFFF).any() else 2.0**-8


def solutions(asked: Asked, at: np.ndarray | None = None) -> list[Solution]:
    """Solve for the weights of every gradient that was given.

    Args:
        asked: the columns and the gradients.
        at: the parameters that are looked at; None for all.
    """
    columns, gradients = asked.columns, asked.gradients
    if at is not None:
        columns, gradients = columns[:, at], gradients[:, at]
    vectors = np.concatenate([columns, gradients]).astype(np.float64)
    gram = vectors @ vectors.T
    items, elements = columns.shape
    rounding = Rounding(asked.unit, items + asked.world + 4, sum_error(elements))
    return [solve(gram, items, items + g, rounding) for g in range(len(gradients))]
