"""Multiples of a power of two, computed exactly, with a certificate that no order would round.

A partial sum of multiples of 2^q is a multiple of 2^q, so it is exact in a dtype of p bits while
it is at most 2^(p+q). Its terms' absolute values add up to more than any partial sum, in whatever
order: if that sum fits, then every order of summation gives the same bits.
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from conformance.arithmetic.plain import one_place
from conformance.arithmetic.system import (
    Structural,
    Uncertain,
    Uncertified,
    Unrounded,
    is_power_of_two,
)
from conformance.core.dtypes import DTYPES
from conformance.core.formats import FORMATS


@dataclass
class Limits:
    """How near to rounding a computation came.

    Attributes:
        dtype: the dtype in which nothing may round.
        sums: bits of the largest sum of absolute values, in units of its lattice.
        operands: bits of the widest factor of a product; up to 8 bits pass through bfloat16 and
            TF32 multipliers too.
    """

    dtype: str
    sums: int = 0
    operands: int = 0


@dataclass(frozen=True)
class Grid:
    """The tensor `units` · 2^`exponent`, units of int64.

    `most` is what no partial sum exceeds, in the same units, while the element is being summed.
    `is_quotient` says that the elements are products with a rounded reciprocal: as exact as the
    others once they are rounded, which a fused multiply-add does not do before it adds.
    """

    units: np.ndarray
    exponent: int
    most: np.ndarray
    is_quotient: bool = False

    @property
    def values(self) -> np.ndarray:
        """Returns the tensor in float64, which holds every value exactly."""
        return np.ldexp(self.units.astype(np.float64), self.exponent)


@dataclass
class Lattice(Unrounded):
    """Exact arithmetic; every operation is checked against the dtype, and noted in `limits`."""

    dtype: str
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        self._bits, self._lowest, self._highest = FORMATS[self.dtype]
        self.limits = Limits(self.dtype)

    def exactly(self, values: np.ndarray) -> Grid:
        """Returns the values on the coarsest lattice that has them all."""
        wide = np.asarray(values).astype(np.float64)
        exponent = 0
        while not np.array_equal(np.ldexp(wide, -exponent), np.rint(np.ldexp(wide, -exponent))):
            exponent -= 1
        return self._checked(np.ldexp(wide, -exponent).astype(np.int64), exponent)

    def moved(self, x: Grid, how: Structural) -> Grid:
        """Moves the units."""
        return replace(x, units=how(x.units), most=how(x.most))

    def add(self, a: Grid, b: Grid) -> Grid:
        """Adds on the finer of the two lattices."""
        exponent = min(a.exponent, b.exponent)
        first, most = _aligned(a, exponent)
        second, more = _aligned(b, exponent)
        return self._checked(first + second, exponent, most + more)

    def multiply(self, a: Grid, b: Grid) -> Grid:
        """Multiplies on the product of the two lattices."""
        self._note_operands(a, b)
        _in_int64(np.abs(a.units.astype(np.float64)) * np.abs(b.units))
        return self._checked(a.units * b.units, a.exponent + b.exponent)

    def scale(self, a: Grid, factor: Fraction) -> Grid:
        """Scales exactly, also where the framework multiplies by the rounded reciprocal.

        Raises:
            Uncertified: if a quotient is not on a lattice, or its rounded reciprocal misses it.
        """
        shift = (factor.denominator & -factor.denominator).bit_length() - 1
        odd = factor.denominator >> shift
        up = factor.numerator * a.units
        if (up % odd).any():
            raise Uncertified(f"{factor} of a value is no dyadic fraction")
        scaled = self._checked(up // odd, a.exponent - shift)
        if not is_power_of_two(factor):
            carrier = DTYPES[self.dtype].carrier
            rounded = a.values.astype(carrier) * carrier.type(float(factor))
            divided = a.values.astype(carrier) * carrier.type(factor.numerator)
            divided = divided / carrier.type(factor.denominator)
            if not (rounded == scaled.values).all() or not (divided == scaled.values).all():
                raise Uncertified(f"the rounded {factor} does not give the exact product")
            return replace(scaled, is_quotient=True)
        return replace(scaled, is_quotient=a.is_quotient)

    def total(self, a: Grid, axes: tuple[int, ...]) -> Grid:
        """Sums on the same lattice."""
        if a.is_quotient:
            raise Uncertified("a sum of quotients, which a fused multiply-add does not round")
        most = np.abs(a.units).sum(axis=axes, keepdims=True)
        return self._checked(a.units.sum(axis=axes, keepdims=True), a.exponent, most)

    def contract(self, spec: str, a: Grid, b: Grid) -> Grid:
        """Contracts on the product of the two lattices."""
        self._note_operands(a, b)
        _in_int64(np.einsum(spec, np.abs(a.units.astype(np.float64)), np.abs(b.units)))
        most = np.einsum(spec, np.abs(a.units), np.abs(b.units))
        return self._checked(np.einsum(spec, a.units, b.units), a.exponent + b.exponent, most)

    def keep(self, a: Grid, mask: np.ndarray) -> Grid:
        """Puts zero where the mask is false."""
        return replace(a, units=np.where(mask, a.units, 0), most=np.where(mask, a.most, 0))

    def positive(self, a: Grid) -> np.ndarray:
        """Says of each element whether it is positive; at zero frameworks may differ."""
        if not a.units.all():
            raise Uncertain("a zero at a ReLU")
        return np.greater(a.units, 0)

    def largest(self, a: Grid, axis: int, *, certain: bool = True) -> np.ndarray:
        """Marks the largest element."""
        if certain and (a.units == a.units.max(axis, keepdims=True)).sum(axis).max() > 1:
            raise Uncertain("two largest elements")
        return one_place(a.units, axis)

    def exp(self, _: Grid) -> Grid:
        """Raises an error: no lattice holds an exponential."""
        raise Uncertified("exp rounds")

    def log(self, _: Grid) -> Grid:
        """Raises an error: no lattice holds a logarithm."""
        raise Uncertified("log rounds")

    def rsqrt(self, a: Grid) -> Grid:
        """Returns 1 / √a of powers of four; of other numbers it rounds."""
        root = 1 / np.sqrt(a.values)
        if not (np.frexp(root)[0] == 0.5).all():
            raise Uncertified("rsqrt of what is no power of four rounds")
        return self.exactly(root)

    def _checked(self, units: np.ndarray, exponent: int, most: np.ndarray | None = None) -> Grid:
        """Returns the tensor if no partial sum up to `most` rounds, overflows or underflows."""
        bound = np.abs(units) if most is None else most
        largest = int(np.max(bound, initial=0))
        bits = largest.bit_length()
        if largest > 1 << self._bits:
            raise Uncertified(f"a sum of {bits} bits in {self.dtype}, which has {self._bits}")
        if largest and not (self._lowest <= exponent and bits + exponent <= self._highest):
            raise Uncertified(f"a value out of {self.dtype}'s range")
        if most is not None:
            self.limits.sums = max(self.limits.sums, bits)
        return Grid(units, exponent, bound)

    def _note_operands(self, *factors: Grid) -> None:
        for factor in factors:
            units = np.abs(factor.units[factor.units != 0])
            widest = int(np.max(units // (units & -units), initial=0)).bit_length()
            self.limits.operands = max(self.limits.operands, widest)


def _aligned(x: Grid, exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tensor, and its most, in units of a finer lattice."""
    shift = x.exponent - exponent
    _in_int64(np.ldexp(x.most.astype(np.float64), shift))
    return x.units << shift, x.most << shift


def _in_int64(most: np.ndarray) -> None:
    if np.max(np.abs(most), initial=0) >= 1 << 62:
        raise Uncertified("more than 62 bits")
