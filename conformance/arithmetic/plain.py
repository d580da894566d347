"""The arithmetic of float64 as NumPy has it, for tests and for wrong answers."""

from fractions import Fraction

import numpy as np

from conformance.arithmetic.system import Structural, Unrounded


class Plain(Unrounded):
    """Every operation rounded to float64; the tensors are arrays."""

    def exactly(self, values: np.ndarray) -> np.ndarray:
        """Returns the values in float64."""
        return np.asarray(values, dtype=np.float64)

    def moved(self, x: np.ndarray, how: Structural) -> np.ndarray:
        """Moves the elements."""
        return how(x)

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Returns a + b."""
        return np.add(a, b)

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Returns a · b."""
        return np.multiply(a, b)

    def scale(self, a: np.ndarray, factor: Fraction) -> np.ndarray:
        """Returns a · factor."""
        return np.multiply(a, float(factor))

    def total(self, a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """Sums over the axes, pairwise."""
        return np.asarray(a.sum(axis=axes, keepdims=True))

    def contract(self, spec: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Contracts as `numpy.einsum` does."""
        return np.asarray(np.einsum(spec, a, b))

    def keep(self, a: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Puts zero where the mask is false."""
        return np.where(mask, a, 0.0)

    def positive(self, a: np.ndarray) -> np.ndarray:
        """Says of each element whether it is positive; no float64 is uncertain."""
        return np.greater(a, 0)

    def largest(self, a: np.ndarray, axis: int, *, certain: bool = True) -> np.ndarray:
        """Marks the first of the largest elements."""
        del certain
        return one_place(a, axis)

    def exp(self, a: np.ndarray) -> np.ndarray:
        """Returns the exponential of a."""
        return np.exp(a)

    def log(self, a: np.ndarray) -> np.ndarray:
        """Returns the natural logarithm of a."""
        return np.log(a)

    def rsqrt(self, a: np.ndarray) -> np.ndarray:
        """Returns 1 / √a."""
        return np.asarray(1 / np.sqrt(a))


def one_place(a: np.ndarray, axis: int) -> np.ndarray:
    """Returns a mask with one place along the axis: that of the first of the largest.

    >>> one_place(np.array([[1, 3, 3]]), 1)
    array([[False,  True, False]])
    """
    mask = np.zeros(a.shape, dtype=bool)
    np.put_along_axis(mask, np.expand_dims(a.argmax(axis), axis), True, axis)
    return mask
