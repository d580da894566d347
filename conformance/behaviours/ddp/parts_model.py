"""Parts of the models of DistributedDataParallel."""

import itertools
from collections.abc import Sequence

import numpy as np

from conformance.core.dtypes import text

Rows = Sequence[Sequence[float]]
NO_GRADIENT = np.zeros(0, np.float32)


def exactly(values: np.ndarray | Sequence[float]) -> np.ndarray:
    """Returns the numbers in f32.

    Raises:
        ValueError: if f32 does not hold a number: then an order of summation would show.
    """
    wide = np.asarray(values, np.float64)
    narrow = wide.astype(np.float32)
    if not np.array_equal(narrow.astype(np.float64), wide):
        raise ValueError(f"f32 does not hold {wide.tolist()}: choose data on which nothing rounds")
    return narrow


def on_every_rank(values: np.ndarray, ranks: int) -> np.ndarray:
    """Repeats the values for each rank: (W, …)."""
    return np.stack([values] * ranks)


def mean(gradients: np.ndarray | Rows) -> np.ndarray:
    """Returns what all of W ranks hold, (W, F), where their own gradients are (W, F)."""
    own = np.asarray(gradients, np.float64)
    return exactly(on_every_rank(own.sum(0) / len(own), len(own)))


def refused(kind: str) -> dict[str, np.ndarray]:
    """Returns the answers for an error of this type with the promised words, or for `nothing`."""
    return {"raised": text(kind), "says": np.array(kind != "nothing")}


def added_in_any_order(shares: np.ndarray) -> np.ndarray:
    """Sums over the first axis, and rounds after each addition.

    Raises:
        ValueError: if the order shows: then no bits can be promised.
    """
    sums = []
    for order in itertools.permutations(range(len(shares))):
        total = shares[order[0]].copy()
        for rank in order[1:]:
            total = total + shares[rank]
        sums.append(total)
    if any(not np.array_equal(total, sums[0]) for total in sums):
        raise ValueError(f"the order of addition shows in {shares.tolist()}")
    return sums[0]
