"""What the oracle asks of numbers."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

import numpy as np


class Uncertain(Exception):  # noqa: N818 - it says what is known, not what went wrong
    """The sign of a value, or which of several is the largest, is not certain."""


class Uncertified(Exception):  # noqa: N818
    """Some order of summation, or a division, could round."""


Structural = Callable[[np.ndarray], np.ndarray]


class Numbers(Protocol):
    """Arithmetic on tensors of one number system, whose inside only the system itself sees."""

    def exactly(self, values: np.ndarray) -> Any:
        """A tensor of these values, which are exact."""

    def moved(self, x: Any, how: Structural) -> Any:
        """The elements put elsewhere, repeated or left out; a zero may come in."""

    def add(self, a: Any, b: Any) -> Any:
        """The sum a + b, broadcast."""

    def multiply(self, a: Any, b: Any) -> Any:
        """The product a · b, broadcast."""

    def scale(self, a: Any, factor: Fraction) -> Any:
        """The factor times a, rounded as a framework rounds a product with a quotient."""

    def total(self, a: Any, axes: tuple[int, ...]) -> Any:
        """The sum over these axes, which stay with extent 1."""

    def contract(self, spec: str, a: Any, b: Any) -> Any:
        """A sum of products, as `numpy.einsum` has it."""

    def keep(self, a: Any, mask: np.ndarray) -> Any:
        """The elements where the mask holds, zero elsewhere."""

    def positive(self, a: Any) -> np.ndarray:
        """Where a > 0.

        Raises:
            Uncertain: if an element may be zero, or its sign is not certain.
        """

    def largest(self, a: Any, axis: int, *, certain: bool = True) -> np.ndarray:
        """Where the largest element along the axis is, as a mask with one place for each.

        Raises:
            Uncertain: if that is to be certain, and two elements may be equal.
        """

    def exp(self, a: Any) -> Any:
        """The exponential of a."""

    def log(self, a: Any) -> Any:
        """The natural logarithm of a, which is positive."""

    def rsqrt(self, a: Any) -> Any:
        """1 / √a, of a that is positive."""


def negative(numbers: Numbers, a: Any) -> Any:
    """−a, which never rounds."""
    return numbers.scale(a, Fraction(-1))


def is_power_of_two(factor: Fraction) -> bool:
    """Whether a product with the factor moves only the exponent.

    >>> is_power_of_two(Fraction(-3, 8)), is_power_of_two(Fraction(1, 8))
    (False, True)
    """
    up, down = abs(factor.numerator), factor.denominator
    return up > 0 and up & (up - 1) == 0 and down & (down - 1) == 0
