"""The average over thousands of ranks, from its definition, with all ranks in one array.

A rank's loss is the mean of w·x over its samples, so its gradient is the mean of its inputs: the
model has this single layer, and W is a leading axis. `definition` computes every model, rank by
rank; this module computes this model for all ranks at once.
"""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from conformance.arithmetic.lattice import Grid, Lattice, Limits
from conformance.core.dtypes import DTYPES
from conformance.core.questions import VirtualQuestion
from conformance.core.random_bits import random_bits
from conformance.gradient_mean.models import FEATURES

NAME = "gradient/only.weight"
# With equal shards both promises have the same answer.
PROMISES = ("rank_mean", "sample_mean")
# A running sum of ones stops here: at 2^p the next 1 is rounded away.
_LOUD = {"f16": 2.0**11, "bf16": 2.0**8}
# The sum of 2,048 such numbers is beyond float16.
_OVERFLOWING = 32.0
# Even bfloat16 has room for a sum of so many terms, in any order.
_TERMS = 32
# A spectrometer has a column for every sample; so many are summed together, to save memory.
_COLUMNS = 256


def inputs(question: VirtualQuestion) -> dict[str, np.ndarray]:
    """Makes the inputs, with the names of `VirtualQuestion`."""
    carrier = DTYPES[question.dtype].carrier
    named = {}
    for k in range(question.micro_batches):
        x = _rows(question, k)
        named[f"inputs/{k}"] = x.astype(carrier, copy=False)
        named[f"targets/{k}"] = np.zeros((len(x), 1), carrier)
    places = named["inputs/0"].shape[1]
    return {"parameter/only.weight": np.ones((1, places), carrier), **named}


def _rows(question: VirtualQuestion, k: int) -> np.ndarray:
    """Makes the inputs (W·n, P) of micro-batch k."""
    rows = question.world_size * question.samples
    match question.fill:
        case "one-hot":
            places = np.zeros((rows, rows * question.micro_batches), DTYPES[question.dtype].carrier)
            places[np.arange(rows), k * rows + np.arange(rows)] = 1
            return places
        case "small":
            return _small(question, f"{question!r}/{k}")
        case "alike":
            return np.tile(np.ldexp(1.0, np.arange(FEATURES) - 4), (rows, 1))
        case "swallowed":
            ones = np.ones((rows, FEATURES))
            ones[0] = _LOUD[question.dtype]
            return ones
        case "overflowing":
            return np.tile(_OVERFLOWING * np.array([1.0, -1.0, 1.5, -1.5] * 2), (rows, 1))


def _small(question: VirtualQuestion, label: str) -> np.ndarray:
    """Draws ±1 and ±2; in a narrow dtype for every (W / 32)-th rank alone, shifted by parameter."""
    world, n = question.world_size, question.samples
    drawn = np.frombuffer(random_bits(label, world * n * FEATURES), np.uint8)
    values = np.array([-2.0, -1.0, 1.0, 2.0])[drawn % 4].reshape(world, n, FEATURES)
    if DTYPES[question.dtype].bits == 16:
        step = max(1, world // _TERMS)
        first = np.arange(FEATURES) * (step - 1) // (FEATURES - 1)
        takes_part = np.arange(world)[:, None] % step == first
        values = values * takes_part[:, None, :]
    return values.reshape(world * n, FEATURES)


def by_rank(question: VirtualQuestion, tensors: Mapping[str, np.ndarray], k: int) -> np.ndarray:
    """Returns the ranks' own gradients (W, P) of micro-batch k in float64, which is exact."""
    x = tensors[f"inputs/{k}"]
    if question.samples == 1:
        return x.astype(np.float64)
    return x.astype(np.float64).reshape(question.world_size, question.samples, -1).mean(axis=1)


def answer(
    question: VirtualQuestion, tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], Limits]:
    """Returns the average, by `PROMISE/gradient/only.weight`, and how near it came to rounding.

    Small integers and one-hot inputs are exact in the question's own dtype, in any order. Other
    fills are exact where sums are carried in float32 and rounded once to the dtype, which is what
    their cases ask.

    Raises:
        Uncertified: if a sum could round all the same.
    """
    carried = question.dtype if question.fill in ("one-hot", "small") else "f32"
    lattice = Lattice(carried)
    columns = tensors["inputs/0"].shape[1]
    sums = np.concatenate(
        [
            _sum(lattice, question, tensors, slice(first, first + _COLUMNS)).values
            for first in range(0, columns, _COLUMNS)
        ],
        axis=1,
    )
    carrier = DTYPES[question.dtype].carrier
    with np.errstate(over="ignore"):
        if question.divided == "after":
            sums = sums.astype(carrier).astype(np.float64)
        mean = (sums / question.world_size).astype(carrier)
    return {f"{promise}/{NAME}": mean for promise in PROMISES}, lattice.limits


def _sum(
    lattice: Lattice, question: VirtualQuestion, tensors: Mapping[str, np.ndarray], columns: slice
) -> Grid:
    """Sums (1, P) over ranks, certified for a division by W before or after the sum."""
    own = None
    for k in range(question.micro_batches):
        x = lattice.exactly(tensors[f"inputs/{k}"][:, columns])
        by_sample = lattice.moved(x, lambda v: v.reshape(question.world_size, question.samples, -1))
        mean = lattice.scale(lattice.total(by_sample, (1,)), Fraction(1, question.samples))
        own = mean if own is None else lattice.add(own, mean)
    assert own is not None
    share = Fraction(1, question.world_size)
    lattice.total(lattice.scale(own, share), (0,))
    total = lattice.total(own, (0,))
    lattice.scale(total, share)
    return lattice.moved(total, lambda v: v.reshape(1, -1))
