"""A value, and an error that a computation in a given precision cannot exceed.

Every sum is charged as if its terms came in the worst order, one after another; every product and
quotient is charged as if it were rounded twice, since a framework may apply factors in another
order than this module. So the error holds for whatever order a framework chooses. Reference:
Higham, Accuracy and Stability of Numerical Algorithms, chapter 3: n roundings stay within
γ_n = n·u / (1 − n·u).
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from conformance.arithmetic.plain import one_place
from conformance.arithmetic.system import Structural, Uncertain, is_power_of_two
from conformance.core.formats import FORMATS, Bits

UNIT_ROUNDOFF = {dtype: 2.0**-bits for dtype, (bits, _, _) in FORMATS.items()}
# A product rounds this often; exp, log and rsqrt may be off by this many units in the last place.
_PRODUCT, _FUNCTION = 2, 4


@dataclass(frozen=True)
class Approximate:
    """Within `error` of `value`, element by element, both in float64."""

    value: np.ndarray
    error: np.ndarray

    @property
    def most(self) -> np.ndarray:
        """Returns the largest absolute value that each element may have."""
        return np.asarray(np.abs(self.value) + self.error)


class Running:
    """Arithmetic on values with errors, for computations in one dtype."""

    def __init__(self, dtype: str, more: int = 0, kept: Bits | None = None) -> None:
        """Sets the precision.

        Args:
            dtype: f64, f32, f16 or bf16.
            more: terms that any sum may be mixed with, in an order that is not the oracle's.
            kept: the bits that a contraction keeps of its factors and of its sums; as many as the
                dtype has by default.
        """
        self._u, self._more = UNIT_ROUNDOFF[dtype], more
        bits = FORMATS[dtype][0]
        # A device that keeps fewer bits may cut off the others and not round: twice the error.
        factors, sums = (kept.factors, kept.sums) if kept else (bits, bits)
        self._entry_u = 2.0 ** (1 - factors) if factors < bits else 0.0
        self._sum_u = 2.0 ** (1 - sums) if sums < bits else self._u
        self._tiny = 2.0 ** FORMATS[dtype][1]

    def exactly(self, values: np.ndarray) -> Approximate:
        """Returns the values with no error."""
        wide = np.asarray(values).astype(np.float64)
        return Approximate(wide, np.zeros_like(wide))

    def moved(self, x: Approximate, how: Structural) -> Approximate:
        """Moves the errors with their values."""
        return Approximate(how(x.value), how(x.error))

    def add(self, a: Approximate, b: Approximate) -> Approximate:
        """Adds, with one rounding."""
        value = a.value + b.value
        return self._rounded(value, a.error + b.error, np.abs(value) + a.error + b.error, 1)

    def multiply(self, a: Approximate, b: Approximate) -> Approximate:
        """Multiplies, with two roundings."""
        most = a.most * b.most
        carried = most - np.abs(a.value) * np.abs(b.value)
        return self._rounded(a.value * b.value, carried, most, _PRODUCT)

    def scale(self, a: Approximate, factor: Fraction) -> Approximate:
        """Scales: a power of two rounds nothing, another factor once, its product twice."""
        roundings = 0 if is_power_of_two(factor) else 1 + _PRODUCT
        by = abs(float(factor))
        return self._rounded(a.value * float(factor), a.error * by, a.most * by, roundings)

    def total(self, a: Approximate, axes: tuple[int, ...]) -> Approximate:
        """Sums, with as many roundings as terms."""
        terms = int(np.prod([a.value.shape[axis] for axis in axes]))

        def added(x: np.ndarray) -> np.ndarray:
            return np.asarray(x.sum(axis=axes, keepdims=True))

        return self._rounded(added(a.value), added(a.error), added(a.most), terms + self._more)

    def contract(self, spec: str, a: Approximate, b: Approximate) -> Approximate:
        """Contracts, with as many roundings as terms and those of a product."""
        most = np.einsum(spec, a.most, b.most)
        carried = most - np.einsum(spec, np.abs(a.value), np.abs(b.value))
        terms = _terms(spec, a.value.shape, b.value.shape)
        value = np.einsum(spec, a.value, b.value)
        # Both factors are rounded on entry.
        entry = (1 + self._entry_u) ** 2 - 1
        carried, most = carried + entry * most, (1 + entry) * most
        return self._rounded(value, carried, most, terms + _PRODUCT + self._more, self._sum_u)

    def keep(self, a: Approximate, mask: np.ndarray) -> Approximate:
        """Puts an exact zero where the mask is false."""
        return Approximate(np.where(mask, a.value, 0), np.where(mask, a.error, 0))

    def positive(self, a: Approximate) -> np.ndarray:
        """Says of each element whether it is positive, whatever its error."""
        if (np.abs(a.value) <= a.error).any():
            raise Uncertain("a sign at a ReLU")
        return np.greater(a.value, 0)

    def largest(self, a: Approximate, axis: int, *, certain: bool = True) -> np.ndarray:
        """Marks the largest element, whatever the errors."""
        place = one_place(a.value, axis)
        low = np.where(place, a.value - a.error, -np.inf).max(axis, keepdims=True)
        if certain and (np.where(place, -np.inf, a.value + a.error) >= low).any():
            raise Uncertain("two elements that may be the largest")
        return place

    def exp(self, a: Approximate) -> Approximate:
        """Returns the exponential of a; the derivative of exp is exp."""
        value = np.exp(a.value)
        carried = value * np.expm1(a.error)
        return self._rounded(value, carried, value + carried, _FUNCTION)

    def log(self, a: Approximate) -> Approximate:
        """Returns the logarithm of a, whose derivative is 1 / a.

        Its own error is one of its result, or of 1.
        """
        if (a.value <= a.error).any():
            raise Uncertain("a logarithm of what may not be positive")
        value = np.log(a.value)
        carried = a.error / (a.value - a.error)
        return self._rounded(value, carried, np.abs(value) + carried, _FUNCTION)

    def rsqrt(self, a: Approximate) -> Approximate:
        """Returns 1 / √a, whose derivative is 1 / (2 a √a)."""
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
        """Adds to the error carried so far that of `roundings` roundings of at most `most`."""
        n = roundings * (unit or self._u)
        if n >= 1:
            raise Uncertain(f"every digit of a sum of {roundings} terms")
        gamma = n / (1 - n)
        return Approximate(value, carried + gamma * most + roundings * self._tiny * self._u)


def _terms(spec: str, *shapes: tuple[int, ...]) -> int:
    """Counts the products that each element of a contraction sums."""
    factors, result = spec.split("->")
    sizes = {
        index: size
        for indices, shape in zip(factors.split(","), shapes, strict=True)
        for index, size in zip(indices, shape, strict=True)
    }
    return int(np.prod([size for index, size in sizes.items() if index not in result]))
