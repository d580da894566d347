"""The wrong averages of the known mistakes over thousands of ranks, all in one array.

The mistakes have the names of `mistakes`; two of them show at this scale alone. An answer is the
gradient (P,) that one process shows, in float64 and not yet rounded to the dtype.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from conformance.core.dtypes import DTYPES
from conformance.core.formats import FORMATS
from conformance.core.questions import VirtualQuestion
from conformance.gradient_mean import virtual_definition as oracle


@dataclass(frozen=True, eq=False)
class Ranks:
    """The ranks' own gradients, and their sum.

    Attributes:
        question: the question of the case.
        inputs: the tensors of the case.
    """

    question: VirtualQuestion
    inputs: Mapping[str, np.ndarray]

    @cached_property
    def own(self) -> np.ndarray:
        """Returns the ranks' gradients (W, P), summed over micro-batches."""
        ks = range(self.question.micro_batches)
        return np.asarray(sum(oracle.by_rank(self.question, self.inputs, k) for k in ks))

    @cached_property
    def total(self) -> np.ndarray:
        """Returns the sum (P,) over ranks."""
        return np.asarray(self.own.sum(axis=0))

    @property
    def world(self) -> int:
        """Returns W."""
        return self.question.world_size

    @property
    def carrier(self) -> "np.dtype[Any]":
        """Returns the dtype of the question's arrays."""
        return DTYPES[self.question.dtype].carrier


def _times(factor: Callable[[Ranks], float]) -> Callable[[Ranks], Iterator[np.ndarray]]:
    def wrong(ranks: Ranks) -> Iterator[np.ndarray]:
        yield ranks.total / ranks.world * factor(ranks)

    return wrong


def _shard_0(ranks: Ranks) -> Iterator[np.ndarray]:
    yield ranks.own[0]


def _psum_loss(ranks: Ranks) -> Iterator[np.ndarray]:
    yield ranks.own[0] * ranks.world


def _accumulation(ranks: Ranks) -> Iterator[np.ndarray]:
    yield ranks.total / ranks.world / ranks.question.micro_batches
    yield ranks.total / ranks.world * ranks.question.micro_batches


def _last_micro_batch(ranks: Ranks) -> Iterator[np.ndarray]:
    last = ranks.question.micro_batches - 1
    yield oracle.by_rank(ranks.question, ranks.inputs, last).mean(axis=0)


def _rank_missing(ranks: Ranks) -> Iterator[np.ndarray]:
    for own in ranks.own:
        yield (ranks.total - own) / ranks.world
        yield (ranks.total - own) / (ranks.world - 1)


def _rank_missing_like(ranks: Ranks, answer: np.ndarray) -> Iterator[np.ndarray]:
    """Yields answers that agree where the given answer is furthest off: W are too many to try."""
    off = np.abs(np.nan_to_num(answer.astype(np.float64) - ranks.total / ranks.world))
    place = int(np.argmax(off))
    for divisor in (ranks.world, ranks.world - 1):
        shown = _rounded((ranks.total[place] - ranks.own[:, place]) / divisor, ranks.carrier)
        for own in np.unique(ranks.own[shown == answer[place]], axis=0):
            yield (ranks.total - own) / divisor


def _counted_in_dtype(ranks: Ranks) -> Iterator[np.ndarray]:
    """Counts W by adding up ones, which stops at 2^p."""
    bits, _, _ = FORMATS[ranks.question.dtype]
    yield ranks.total / min(ranks.world, 1 << bits)


def _summed_in_dtype(ranks: Ranks) -> Iterator[np.ndarray]:
    """Rounds the sum, or every partial sum, to the dtype, and divides before or after the sum."""
    if ranks.carrier.itemsize > 2 or ranks.question.fill == "one-hot":
        # A sum of one-hot inputs has a single term that is not zero.
        return
    yield _rounded(ranks.total, ranks.carrier).astype(np.float64) / ranks.world
    yield _running(ranks.own, ranks.carrier) / ranks.world
    yield _running(ranks.own / ranks.world, ranks.carrier)


def _running(terms: np.ndarray, carrier: "np.dtype[Any]") -> np.ndarray:
    """Sums terms (W, P) to (P,) one after another in the dtype; zeros change nothing."""
    total = np.zeros_like(terms[0], dtype=carrier)
    with np.errstate(all="ignore"):
        for term in terms[terms.any(axis=1)].astype(carrier):
            total = total + term
    return total.astype(np.float64)


def _rounded(gradient: np.ndarray, carrier: "np.dtype[Any]") -> np.ndarray:
    with np.errstate(over="ignore"):
        return gradient.astype(carrier)


WRONG: Mapping[str, Callable[[Ranks], Iterator[np.ndarray]]] = {
    "not-divided": _times(lambda ranks: ranks.world),
    "divided-twice": _times(lambda ranks: 1 / ranks.world),
    "squared-world": _times(lambda ranks: ranks.world**2),
    "shard-0-returned": _shard_0,
    "psum-loss-unsynchronised": _psum_loss,
    "sum-loss": _times(lambda ranks: ranks.question.samples),
    "accumulation-unscaled": _accumulation,
    "last-micro-batch-only": _last_micro_batch,
    "ranks-counted-in-dtype": _counted_in_dtype,
    "summed-in-dtype": _summed_in_dtype,
    "rank-missing": _rank_missing,
}


def wrong_answers(name: str, ranks: Ranks) -> Iterator[np.ndarray]:
    """Yields a mistake's answers as an implementation would show them: (1, P) in the dtype."""
    for gradient in WRONG[name](ranks):
        yield _rounded(gradient, ranks.carrier).reshape(1, -1)


def fits(name: str, ranks: Ranks, answer: np.ndarray) -> bool:
    """Says whether the mistake gives this answer, (1, P) in the dtype."""
    answer = answer.reshape(-1)
    candidates = _rank_missing_like(ranks, answer) if name == "rank-missing" else WRONG[name](ranks)
    return any(
        np.array_equal(answer, _rounded(gradient, ranks.carrier), equal_nan=True)
        for gradient in candidates
    )
