"""float64, as NumPy computes it: for tests, and for wrong answers."""

from fractions import Fraction

import numpy as np

from conformance.arithmetic.system import Structural


class Plain:
    """Every operation rounded to float64; the tensors are arrays."""

    def exactly(self, values: np.ndarray) -> np.ndarray:
        """As it is."""
        return np.asarray(values, dtype=np.float64)

    def moved(self, x: np.ndarray, how: Structural) -> np.ndarray:
        """As `how` does."""
        return how(x)

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The sum a + b."""
        return np.add(a, b)

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The product a · b."""
        return np.multiply(a, b)

    def scale(self, a: np.ndarray, factor: Fraction) -> np.ndarray:
        """The product a · factor."""
        return np.multiply(a, float(factor))

    def total(self, a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """The sum, pairwise."""
        return np.asarray(a.sum(axis=axes, keepdims=True))

    def contract(self, spec: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """As `numpy.einsum`."""
        return np.asarray(np.einsum(spec, a, b))

    def keep(self, a: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Zero where the mask is not."""
        return np.where(mask, a, 0.0)

    def positive(self, a: np.ndarray) -> np.ndarray:
        """Where a > 0; nothing is uncertain here."""
        return np.greater(a, 0)

    def largest(self, a: np.ndarray, axis: int, *, certain: bool = True) -> np.ndarray:
        """The first of the largest."""
        del certain
        return one_place(a, axis)

    def exp(self, a: np.ndarray) -> np.ndarray:
        """The exponential of a."""
        return np.exp(a)

    def log(self, a: np.ndarray) -> np.ndarray:
        """The natural logarithm."""
        return np.log(a)

    def rsqrt(self, a: np.ndarray) -> np.ndarray:
        """1 / √a."""
        return np.asarray(1 / np.sqrt(a))


def one_place(a: np.ndarray, axis: int) -> np.ndarray:
    """A mask with one place along the axis: that of the first of the largest.

    >>> one_place(np.array([[1, 3, 3]]), 1)
    array([[False,  True, False]])
    """
    mask = np.zeros(a.shape, dtype=bool)
    np.put_along_axis(mask, np.expand_dims(a.argmax(axis), axis), True, axis)
    return mask
