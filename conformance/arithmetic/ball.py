"""Balls that enclose the true value, and their correct rounding, for bounded goldens."""

from fractions import Fraction
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq

from conformance.arithmetic.plain import one_place
from conformance.arithmetic.system import Structural, Uncertain, Unrounded
from conformance.core.dtypes import DTYPES
from conformance.core.formats import FORMATS


class Ball(Unrounded):
    """Arb's midpoint-radius arithmetic; the tensors are arrays of `flint.arb`."""

    def __init__(self, precision: int = 256) -> None:
        """Sets the working precision.

        Args:
            precision: bits of a midpoint.
        """
        ctx.prec = precision
        self._exp = np.frompyfunc(lambda x: x.exp(), 1, 1)
        self._log = np.frompyfunc(lambda x: x.log(), 1, 1)
        self._rsqrt = np.frompyfunc(lambda x: x.rsqrt(), 1, 1)

    def exactly(self, values: np.ndarray) -> np.ndarray:
        """Returns balls of radius zero."""
        wide = np.asarray(values).astype(np.float64)
        return _objects([arb(float(value)) for value in wide.reshape(-1)], wide.shape)

    def moved(self, x: np.ndarray, how: Structural) -> np.ndarray:
        """Moves the elements; the zero that `how` may put in is an integer, which `arb` accepts."""
        return how(x)

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Returns a + b."""
        return np.add(a, b)

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Returns a · b."""
        return np.multiply(a, b)

    def scale(self, a: np.ndarray, factor: Fraction) -> np.ndarray:
        """Returns a · factor."""
        return np.multiply(a, arb(fmpq(factor.numerator, factor.denominator)))

    def total(self, a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """Sums over the axes."""
        return np.asarray(a.sum(axis=axes, keepdims=True))

    def contract(self, spec: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Contracts as `numpy.einsum` does."""
        return np.asarray(np.einsum(spec, a, b))

    def keep(self, a: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Puts zero where the mask is false."""
        return np.where(mask, a, arb(0))

    def positive(self, a: np.ndarray) -> np.ndarray:
        """Says of each element whether it is positive."""
        signs = [bool(x > 0) - bool(x < 0) for x in a.reshape(-1)]
        if 0 in signs:
            raise Uncertain("a sign at a ReLU")
        return np.greater(np.array(signs).reshape(a.shape), 0)

    def largest(self, a: np.ndarray, axis: int, *, certain: bool = True) -> np.ndarray:
        """Marks the largest midpoint; `Running` checks more strictly whether it is certain."""
        del certain
        return one_place(np.array([float(x) for x in a.reshape(-1)]).reshape(a.shape), axis)

    def exp(self, a: np.ndarray) -> np.ndarray:
        """Returns the exponential of a."""
        return np.asarray(self._exp(a))

    def log(self, a: np.ndarray) -> np.ndarray:
        """Returns the natural logarithm of a."""
        return np.asarray(self._log(a))

    def rsqrt(self, a: np.ndarray) -> np.ndarray:
        """Returns 1 / √a."""
        return np.asarray(self._rsqrt(a))


def rounded(balls: np.ndarray, dtype: str) -> np.ndarray:
    """Rounds every ball's value correctly (to nearest, ties to even) to the dtype.

    Raises:
        Uncertain: if a ball is so wide that its two ends round apart.
    """
    values = []
    for ball in balls.reshape(-1):
        wide = arb(ball)
        low, high = (_nearest(end, dtype) for end in (wide.lower(), wide.upper()))
        if low != high:
            raise Uncertain(f"{wide} rounds in two ways: raise the precision")
        values.append(low)
    return np.array(values).reshape(balls.shape).astype(DTYPES[dtype].carrier)


def _nearest(exact: Any, dtype: str) -> float:
    """Returns an exact ball's value in the dtype, as a float that holds it."""
    bits, lowest, _ = FORMATS[dtype]
    mantissa, exponent = (int(part) for part in exact.man_exp())
    if not mantissa:
        return 0.0
    # The last place of the result, in the range of normal numbers or below it.
    unit = max(mantissa.bit_length() + exponent, lowest + 1) - bits
    # Python's `round` takes a fraction to the nearest integer, ties to even.
    return float(
        np.ldexp(float(round(Fraction(mantissa) * Fraction(2) ** (exponent - unit))), unit)
    )


def _objects(items: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)
