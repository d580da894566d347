"""What the oracle needs of a number system."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

import numpy as np


class Uncertain(Exception):  # noqa: N818 - The name says what is known, not what went wrong.
    """The sign of a value, or which of several is the largest, is not certain."""


class Uncertified(Exception):  # noqa: N818
    """Some order of summation, or a division, could round."""


Structural = Callable[[np.ndarray], np.ndarray]


class Numbers(Protocol):
    """Arithmetic on tensors of one number system, whose inside only the system itself sees."""

    def exactly(self, values: np.ndarray) -> Any:
        """Returns a tensor of the values, which are exact."""

    def stored(self, a: Any) -> Any:
        """Returns a, which a framework rounds here before anything uses it."""

    def moved(self, x: Any, how: Structural) -> Any:
        """Puts the elements elsewhere, repeats them or leaves them out; zeros may come in."""

    def add(self, a: Any, b: Any) -> Any:
        """Returns a + b, broadcast."""

    def add_zero(self, a: Any, zero: Any) -> Any:
        """Returns a, to which a framework may add terms that add up to zero."""

    def multiply(self, a: Any, b: Any) -> Any:
        """Returns a · b, broadcast."""

    def scale(self, a: Any, factor: Fraction) -> Any:
        """Returns factor · a, rounded as a framework rounds a product with a quotient."""

    def with_roundings(self, a: Any, count: int) -> Any:
        """Returns a, which a framework may reach through so many more roundings."""

    def total(self, a: Any, axes: tuple[int, ...]) -> Any:
        """Sums over the axes, which stay with extent 1."""

    def contract(self, spec: str, a: Any, b: Any) -> Any:
        """Sums products, as `numpy.einsum` does."""

    def keep(self, a: Any, mask: np.ndarray) -> Any:
        """Returns the elements where the mask holds, and zero elsewhere."""

    def positive(self, a: Any) -> np.ndarray:
        """Says of each element whether it is positive.

        Raises:
            Uncertain: if an element may be zero, or its sign is not certain.
        """

    def largest(self, a: Any, axis: int, *, certain: bool = True) -> np.ndarray:
        """Marks the largest element along the axis, in a mask with one place for each.

        Raises:
            Uncertain: if `certain` is true, and two elements may be equal.
        """

    def exp(self, a: Any) -> Any:
        """Returns the exponential of a."""

    def log(self, a: Any) -> Any:
        """Returns the natural logarithm of a, which is positive."""

    def rsqrt(self, a: Any) -> Any:
        """Returns 1 / √a of a positive a."""


class Unrounded:
    """What says where a framework rounds, for number systems that do not ask."""

    def stored(self, a: Any) -> Any:
        """Returns a."""
        return a

    def add_zero(self, a: Any, zero: Any) -> Any:
        """Returns a."""
        del zero
        return a

    def with_roundings(self, a: Any, count: int) -> Any:
        """Returns a."""
        del count
        return a


def negative(numbers: Numbers, a: Any) -> Any:
    """Returns −a, which never rounds."""
    return numbers.scale(a, Fraction(-1))


def is_power_of_two(factor: Fraction) -> bool:
    """Says whether a product with the factor moves only the exponent.

    >>> is_power_of_two(Fraction(-3, 8)), is_power_of_two(Fraction(1, 8))
    (False, True)
    """
    up, down = abs(factor.numerator), factor.denominator
    return up > 0 and up & (up - 1) == 0 and down & (down - 1) == 0
