"""A value, and an error that a computation in a given precision cannot exceed.

Every sum is charged as if its terms came in the worst order, one after another; every product and
quotient as if it were rounded twice, since factors may be applied in another order than here. So
the error holds for whatever order a framework chooses. Reference: Higham, Accuracy and Stability
of Numerical Algorithms, chapter 3: n roundings stay within γ_n = n·u / (1 − n·u).
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from conformance.arithmetic.plain import one_place
from conformance.arithmetic.system import Structural, Uncertain, is_power_of_two
from conformance.core.formats import FORMATS, Bits

UNIT_ROUNDOFF = {dtype: 2.0**-bits for dtype, (bits, _, _) in FORMATS.items()}
# Roundings of a product; and units in the last place by which exp, log and rsqrt may be off.
_PRODUCT, _FUNCTION = 2, 4


@dataclass(frozen=True)
class Approximate:
    """Within `error` of `value`, element by element, both in float64."""

    value: np.ndarray
    error: np.ndarray

    @property
    def most(self) -> np.ndarray:
        """The largest absolute value that it may have."""
        return np.asarray(np.abs(self.value) + self.error)


class Running:
    """Arithmetic on values with errors, for computations in one dtype."""

    def __init__(self, dtype: str, more: int = 0, kept: Bits | None = None) -> None:
        """Choose the precision.

        Args:
            dtype: f64, f32, f16 or bf16.
            more: terms that any sum may be mixed with, in an order that is not the oracle's.
            kept: the bits that a contraction keeps of its factors and of its sums; those of the
                dtype, unless there are fewer.
        """
        self._u, self._more = UNIT_ROUNDOFF[dtype], more
        bits = FORMATS[dtype][0]
        # What is fewer may be cut off rather than rounded: twice the error.
        factors, sums = (kept.factors, kept.sums) if kept else (bits, bits)
        self._entry_u = 2.0 ** (1 - factors) if factors < bits else 0.0
        self._sum_u = 2.0 ** (1 - sums) if sums < bits else self._u
        self._tiny = 2.0 ** FORMATS[dtype][1]

    def exactly(self, values: np.ndarray) -> Approximate:
        """Without error."""
        wide = np.asarray(values).astype(np.float64)
        return Approximate(wide, np.zeros_like(wide))

    def moved(self, x: Approximate, how: Structural) -> Approximate:
        """Errors move with their values."""
        return Approximate(how(x.value), how(x.error))

    def add(self, a: Approximate, b: Approximate) -> Approximate:
        """One rounding."""
        value = a.value + b.value
        return self._rounded(value, a.error + b.error, np.abs(value) + a.error + b.error, 1)

    def multiply(self, a: Approximate, b: Approximate) -> Approximate:
        """Two roundings."""
        most = a.most * b.most
        carried = most - np.abs(a.value) * np.abs(b.value)
        return self._rounded(a.value * b.value, carried, most, _PRODUCT)

    def scale(self, a: Approximate, factor: Fraction) -> Approximate:
        """None for a power of two; else that of the quotient, and two of the product."""
        roundings = 0 if is_power_of_two(factor) else 1 + _PRODUCT
        by = abs(float(factor))
        return self._rounded(a.value * float(factor), a.error * by, a.most * by, roundings)

    def total(self, a: Approximate, axes: tuple[int, ...]) -> Approximate:
        """As many roundings as terms."""
        terms = int(np.prod([a.value.shape[axis] for axis in axes]))

        def added(x: np.ndarray) -> np.ndarray:
            return np.asarray(x.sum(axis=axes, keepdims=True))

        return self._rounded(added(a.value), added(a.error), added(a.most), terms + self._more)

    def contract(self, spec: str, a: Approximate, b: Approximate) -> Approximate:
        """As many roundings as terms, and those of a product."""
        most = np.einsum(spec, a.most, b.most)
        carried = most - np.einsum(spec, np.abs(a.value), np.abs(b.value))
        terms = _terms(spec, a.value.shape, b.value.shape)
        value = np.einsum(spec, a.value, b.value)
        entry = (1 + self._entry_u) ** 2 - 1  # two factors, each rounded on entry
        carried, most = carried + entry * most, (1 + entry) * most
        return self._rounded(value, carried, most, terms + _PRODUCT + self._more, self._sum_u)

    def keep(self, a: Approximate, mask: np.ndarray) -> Approximate:
        """Exactly zero where the mask is not."""
        return Approximate(np.where(mask, a.value, 0), np.where(mask, a.error, 0))

    def positive(self, a: Approximate) -> np.ndarray:
        """Where a > 0, whatever the error."""
        if (np.abs(a.value) <= a.error).any():
            raise Uncertain("a sign at a ReLU")
        return np.greater(a.value, 0)

    def largest(self, a: Approximate, axis: int, *, certain: bool = True) -> np.ndarray:
        """Where the largest is, whatever the errors."""
        place = one_place(a.value, axis)
        low = np.where(place, a.value - a.error, -np.inf).max(axis, keepdims=True)
        if certain and (np.where(place, -np.inf, a.value + a.error) >= low).any():
            raise Uncertain("two elements that may be the largest")
        return place

    def exp(self, a: Approximate) -> Approximate:
        """The derivative of exp is exp."""
        value = np.exp(a.value)
        carried = value * np.expm1(a.error)
        return self._rounded(value, carried, value + carried, _FUNCTION)

    def log(self, a: Approximate) -> Approximate:
        """The derivative of log is 1 / a; its own error is one of its result, or of 1."""
        if (a.value <= a.error).any():
            raise Uncertain("a logarithm of what may not be positive")
        value = np.log(a.value)
        carried = a.error / (a.value - a.error)
        return self._rounded(value, carried, np.abs(value) + carried, _FUNCTION)

    def rsqrt(self, a: Approximate) -> Approximate:
        """The derivative of 1 / √a is 1 / (2 a √a)."""
        if (a.value <= a.error).any():
            raise Uncertain("a root of what may not be positive")
        value, lowest = 1 / np.sqrt(a.value), a.value - a.error
        carried = a.error / (2 * lowest * np.sqrt(lowest))
        return self._rounded(value, carried, value + carried, _FUNCTION)

    def _rounded(
        self,
        value: np.ndarray,
        carried: np.ndarray,
        most: np.ndarray,
        roundings: int,
        unit: float | None = None,
    ) -> Approximate:
        """The error carried so far, and that of so many roundings of at most `most`."""
        n = roundings * (unit or self._u)
        if n >= 1:
            raise Uncertain(f"every digit of a sum of {roundings} terms")
        gamma = n / (1 - n)
        return Approximate(value, carried + gamma * most + roundings * self._tiny * self._u)


def _terms(spec: str, *shapes: tuple[int, ...]) -> int:
    """How many products each element of a contraction sums."""
    given, wanted = spec.split("->")
    sizes = {
        index: size
        for indices, shape in zip(given.split(","), shapes, strict=True)
        for index, size in zip(indices, shape, strict=True)
    }
    return int(np.prod([size for index, size in sizes.items() if index not in wanted]))
