"""A value, and an error that a computation in a given precision cannot exceed.

What is bounded is a formula, and not one way to compute it. Its terms may be added in any order and
in any tree, its factors applied in any order, a factor to a sum or to each of its terms, and a
product may be fused into the sum that takes it. A value is therefore kept with what its formula
comes to when it is multiplied out and every term is taken absolutely, and with the number of
roundings that a term may meet: n of them stay within γ_n = n·u / (1 − n·u) of each term (Higham,
Accuracy and Stability of Numerical Algorithms, chapter 3). `stored` ends a formula.
`docs/explanation/bounds.md` states the model whole.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from conformance.arithmetic.plain import one_place
from conformance.arithmetic.system import Structural, Uncertain, is_power_of_two
from conformance.core.formats import FORMATS, Bits

UNIT_ROUNDOFF = {dtype: 2.0**-bits for dtype, (bits, _, _) in FORMATS.items()}
# A product rounds this often, and a factor that is no power of two: it may be applied in two parts,
# each a rounded quotient and a product. exp, log and rsqrt may be off by 4 units in the last place,
# each of which is up to two roundings.
_PRODUCT, _FACTOR, _FUNCTION = 2, 4, 8


@dataclass(frozen=True)
class Formula:
    """How a value is computed, as far as a framework may compute it otherwise.

    Attributes:
        carried: what the errors of the arguments, and underflow, do to the value.
        most: the sum of the absolute values of all terms, multiplied out, with those errors.
        terms: how many terms the outermost sum has.
        depth: how many roundings one of these terms may meet before it is added.
        unit: the roundoff of one of them.
    """

    carried: np.ndarray
    most: np.ndarray
    terms: int = 1
    depth: int = 0
    unit: float = 0.0

    @property
    def roundings(self) -> int:
        """Returns how many roundings a term may meet in all."""
        return self.depth + self.terms - 1

    @property
    def error(self) -> np.ndarray:
        """Returns what no order of the computation exceeds.

        Raises:
            Uncertain: if so many roundings leave no digit.
        """
        return np.asarray(self.carried + _gamma(self.roundings, self.unit) * self.most)

    def moved(self, how: Structural) -> "Formula":
        """Returns the formula of elements that were moved."""
        return replace(self, carried=how(self.carried), most=how(self.most))


@dataclass(frozen=True)
class Approximate:
    """Within `error` of `value`, element by element, both in float64.

    Attributes:
        value: computed in float64.
        error: what no computation exceeds.
        formula: what the value is computed by, until it is stored.
    """

    value: np.ndarray
    error: np.ndarray
    formula: Formula | None = None

    @property
    def most(self) -> np.ndarray:
        """Returns the largest absolute value that each element may have."""
        return np.asarray(np.abs(self.value) + self.error)

    @property
    def terms(self) -> Formula:
        """Returns the formula; a number that is stored is the one term of its own."""
        return self.formula or Formula(self.error, self.most)


class Running:
    """Arithmetic on values with errors, for computations in one dtype."""

    def __init__(self, dtype: str, kept: Bits | None = None) -> None:
        """Sets the precision.

        Args:
            dtype: f64, f32, f16 or bf16.
            kept: the bits that a contraction keeps of its factors and of its sums; as many as the
                dtype has by default.
        """
        self._u = UNIT_ROUNDOFF[dtype]
        bits = FORMATS[dtype][0]
        # A device that keeps fewer bits may cut off the others and not round: twice the error.
        factors, sums = (kept.factors, kept.sums) if kept else (bits, bits)
        self._entry_u = 2.0 ** (1 - factors) if factors < bits else 0.0
        self._sum_u = 2.0 ** (1 - sums) if sums < bits else self._u
        self._underflow = 2.0 ** FORMATS[dtype][1] * self._u

    def exactly(self, values: np.ndarray) -> Approximate:
        """Returns the values with no error."""
        wide = np.asarray(values).astype(np.float64)
        return Approximate(wide, np.zeros_like(wide))

    def stored(self, a: Approximate) -> Approximate:
        """Ends the formula: the number has its error, and is one term of whatever uses it."""
        return Approximate(a.value, a.error)

    def moved(self, x: Approximate, how: Structural) -> Approximate:
        """Moves the errors with their values."""
        formula = x.formula and x.formula.moved(how)
        return Approximate(how(x.value), how(x.error), formula)

    def add(self, a: Approximate, b: Approximate) -> Approximate:
        """Joins the terms of both sums, which may be added in any order.

        Two stored numbers are added with one rounding of their sum.
        """
        value, formula = a.value + b.value, self._joined(a.terms, b.terms)
        if a.formula or b.formula:
            return Approximate(value, formula.error, formula)
        rounded = _gamma(1, self._u) * (np.abs(value) + formula.carried)
        return Approximate(value, formula.carried + rounded, formula)

    def add_zero(self, a: Approximate, zero: Approximate) -> Approximate:
        """Joins terms that add up to zero: they leave their errors."""
        formula = self._joined(a.terms, zero.terms)
        return Approximate(a.value, formula.error, formula)

    def multiply(self, a: Approximate, b: Approximate) -> Approximate:
        """Multiplies, with two roundings beside those of both factors."""
        first, second = a.terms, b.terms
        carried = np.abs(a.value) * second.carried + first.carried * np.abs(b.value)
        return self._computed(
            a.value * b.value,
            carried + first.carried * second.carried,
            first.most * second.most,
            depth=first.roundings + second.roundings + _PRODUCT,
            unit=max(first.unit, second.unit),
            operations=_PRODUCT,
        )

    def scale(self, a: Approximate, factor: Fraction) -> Approximate:
        """Scales the sum, or each of its terms; a power of two rounds nothing."""
        by = abs(float(factor))
        if is_power_of_two(factor):
            return Approximate(
                a.value * float(factor),
                a.error * by,
                a.formula and a.formula.moved(lambda x: x * by),
            )
        start = a.terms
        return self._computed(
            a.value * float(factor),
            start.carried * by,
            start.most * by,
            terms=start.terms,
            depth=start.depth + _FACTOR,
            unit=start.unit,
            operations=_FACTOR,
        )

    def with_roundings(self, a: Approximate, count: int) -> Approximate:
        """Lets every term meet so many more roundings."""
        formula = a.terms
        formula = replace(formula, depth=formula.depth + count, unit=max(formula.unit, self._u))
        return Approximate(a.value, formula.error, formula)

    def total(self, a: Approximate, axes: tuple[int, ...]) -> Approximate:
        """Sums in any order; to add a zero rounds nothing."""
        start = a.terms

        def added(x: np.ndarray) -> np.ndarray:
            return np.asarray(x.sum(axis=axes, keepdims=True))

        terms = max(1, int(np.max(added(start.most != 0), initial=0)))
        return self._computed(
            added(a.value),
            added(start.carried),
            added(start.most),
            terms=terms,
            depth=start.roundings,
            unit=start.unit,
            operations=terms,
        )

    def contract(self, spec: str, a: Approximate, b: Approximate) -> Approximate:
        """Sums products of two stored numbers in any order."""
        first, second = np.abs(a.value), np.abs(b.value)
        # Not the difference of two sums, which in f64 is their own rounding and no more.
        carried = np.einsum(spec, first, b.error) + np.einsum(spec, a.error, second + b.error)
        most = np.einsum(spec, first, second) + carried
        terms = _terms(spec, a.value.shape, b.value.shape)
        # Both factors are rounded on entry.
        entry = (1 + self._entry_u) ** 2 - 1
        return self._computed(
            np.einsum(spec, a.value, b.value),
            carried + entry * most,
            (1 + entry) * most,
            terms=terms,
            depth=_PRODUCT,
            unit=self._sum_u,
            operations=terms * _PRODUCT,
        )

    def keep(self, a: Approximate, mask: np.ndarray) -> Approximate:
        """Puts an exact zero where the mask is false."""
        return self.moved(a, lambda x: np.where(mask, x, 0))

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
        return self._function(value, carried)

    def log(self, a: Approximate) -> Approximate:
        """Returns the logarithm of a, whose derivative is 1 / a.

        Its own error is one of its result, or of 1.
        """
        if (a.value <= a.error).any():
            raise Uncertain("a logarithm of what may not be positive")
        value = np.log(a.value)
        carried = a.error / (a.value - a.error)
        return self._function(value, carried)

    def rsqrt(self, a: Approximate) -> Approximate:
        """Returns 1 / √a, whose derivative is 1 / (2 a √a)."""
        if (a.value <= a.error).any():
            raise Uncertain("a root of what may not be positive")
        value, lowest = 1 / np.sqrt(a.value), a.value - a.error
        carried = a.error / (2 * lowest * np.sqrt(lowest))
        return self._function(value, carried)

    def _joined(self, a: Formula, b: Formula) -> Formula:
        return Formula(
            a.carried + b.carried,
            a.most + b.most,
            a.terms + b.terms,
            max(a.depth, b.depth),
            max(a.unit, b.unit, self._u),
        )

    def _computed(
        self,
        value: np.ndarray,
        carried: np.ndarray,
        most: np.ndarray,
        *,
        terms: int = 1,
        depth: int = 0,
        unit: float = 0.0,
        operations: int = 0,
    ) -> Approximate:
        """Returns a value with its formula, of whose operations each may underflow."""
        under = operations * self._underflow
        formula = Formula(carried + under, most + under, terms, depth, max(unit, self._u))
        return Approximate(value, formula.error, formula)

    def _function(self, value: np.ndarray, carried: np.ndarray) -> Approximate:
        """Returns a stored number: what a library's function gives is no formula."""
        own = _gamma(_FUNCTION, self._u) * (np.abs(value) + carried)
        return Approximate(value, carried + own + _FUNCTION * self._underflow)


def _gamma(roundings: int, unit: float) -> float:
    """Returns what so many roundings do to a number, relatively."""
    n = roundings * unit
    if n >= 1:
        raise Uncertain(f"every digit after {roundings} roundings")
    return n / (1 - n)


def _terms(spec: str, *shapes: tuple[int, ...]) -> int:
    """Counts the products that each element of a contraction sums."""
    factors, result = spec.split("->")
    sizes = {
        index: size
        for indices, shape in zip(factors.split(","), shapes, strict=True)
        for index, size in zip(indices, shape, strict=True)
    }
    return int(np.prod([size for index, size in sizes.items() if index not in result]))
