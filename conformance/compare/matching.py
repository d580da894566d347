"""Finds a value of one model among another's, whatever layout it lies in, and how far it is off."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from conformance.arithmetic.running import Approximate

# Nearer than this two values are taken for one quantity; whether they agree the errors say.
NEAR = 2.0**-20
_SAMPLE = 61


@dataclass(frozen=True)
class Match:
    """A value of the other model, and how this one's axes lie there."""

    number: int
    axes: tuple[int, ...]
    furthest: float
    ratio: float


class Values:
    """All values of a run, by size."""

    def __init__(self, values: Sequence[tuple[int, Approximate]]) -> None:
        """Takes numbered values; those without a finite element are left out."""
        self._by_size: dict[int, list[tuple[int, np.ndarray, np.ndarray, float, float]]] = {}
        for number, at in values:
            flat = np.asarray(at.value, dtype=np.float64).reshape(-1)
            with np.errstate(all="ignore"):
                first, second = float(np.abs(flat).sum()), float((flat * flat).sum())
            if np.isfinite(second) and second > 0:
                error = np.asarray(at.error).reshape(-1)
                self._by_size.setdefault(flat.size, []).append((number, flat, error, first, second))

    def find(self, at: Approximate, near: float = NEAR) -> Match | None:
        """The nearest value that has all elements of this one, in an order of its axes."""
        best: Match | None = None
        for match in self._matches(at, near):
            if best is None or match.furthest < best.furthest:
                best = match
        return best

    def like(self, at: Approximate, near: float) -> np.ndarray | None:
        """The value that is most like this one on the whole, within a share of its size."""
        value = np.asarray(at.value, dtype=np.float64)
        size = float(np.sqrt((value * value).sum()))
        best, least = None, near * size
        for order in orders(value.shape):
            flat = value.transpose(order).reshape(-1)
            for _, other, _, _, _ in self._by_size.get(value.size, []):
                distance = float(np.sqrt(((flat - other) ** 2).sum()))
                if distance < least:
                    best, least = (other, order), distance
        if best is None:
            return None
        other, order = best
        shape = [value.shape[axis] for axis in order]
        return np.asarray(other.reshape(shape).transpose(np.argsort(order)))

    def _matches(self, at: Approximate, near: float) -> Iterator[Match]:
        value = np.asarray(at.value, dtype=np.float64)
        rows = self._by_size.get(value.size, [])
        if not rows or not np.isfinite(value).all() or value.size < 2:
            return
        first, second = float(np.abs(value).sum()), float((value * value).sum())
        largest = float(np.abs(value).max())
        if not largest or np.ptp(value) == 0:
            return
        rows = [
            row for row in rows
            if abs(row[3] - first) <= 4 * near * first and abs(row[4] - second) <= 8 * near * second
        ]  # fmt: skip
        if not rows:
            return
        step = max(value.size // _SAMPLE, 1)
        for order in orders(value.shape):
            flat = value.transpose(order).reshape(-1)
            error = np.broadcast_to(at.error, value.shape).transpose(order).reshape(-1)
            for number, other, other_error, _, _ in rows:
                if (np.abs(flat[::step] - other[::step]) > near * largest).any():
                    continue
                apart = np.abs(flat - other)
                furthest = float(apart.max())
                if furthest <= near * largest:
                    yield Match(number, order, furthest, ratio(apart, error + other_error))


def orders(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The orders of axes that are not the same as one before."""
    seen = set()
    for order in permutations(range(len(shape))) if len(shape) <= 5 else [tuple(range(len(shape)))]:
        long = tuple(axis for axis in order if shape[axis] > 1)
        if long not in seen:
            seen.add(long)
            yield order


def ratio(apart: np.ndarray, error: np.ndarray) -> float:
    """The largest distance ÷ error; 0 where both are 0, infinite where a value is no number."""
    with np.errstate(all="ignore"):
        ratios = np.where(apart == 0, 0.0, apart / error)
    ratios = np.where(np.isinf(error), 0.0, ratios)
    return float(np.max(np.where(np.isnan(ratios), np.inf, ratios), initial=0.0))


def off(given: np.ndarray, expected: Approximate) -> str:
    """How far it is outside its bound, in words.

    >>> off(np.array([1.5, 2.0]), Approximate(np.array([1.0, 2.0]), np.array([0.25, 0.25])))
    '1 of 2 elements is outside the bound, most at [0]: 1.5 where 1 is right, 2 times the bound'
    """
    right = expected.value
    if given.shape != right.shape:
        return f"shape {list(given.shape)} where {list(right.shape)} is right"
    with np.errstate(all="ignore"):
        error = np.abs(given.astype(np.float64) - right)
        times = np.where(error == 0, 0.0, error / expected.error)
    times, error = (np.where(np.isnan(x), np.inf, x) for x in (times, error))
    wrong = int((times > 1).sum())
    flat = int(np.where(times > 1, error, -1).argmax())
    worst = tuple(int(i) for i in np.unravel_index(flat, right.shape))
    far = f"{times[worst]:.3g} times the bound" if np.isfinite(times[worst]) else "the bound is 0"
    words = (
        f"{wrong} of {right.size} elements {'are' if wrong > 1 else 'is'} outside the bound, "
        f"most at {list(worst)}: {float(given[worst]):.9g} where {right[worst]:.9g} is right, {far}"
    )
    return words + ("; all that came is zero" if not given.any() else "")
