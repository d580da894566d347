"""How an error is carried through each kind of operation, whatever framework computed the value.

Every rule holds for any order of summation and any algorithm that a library may choose for the
operation: sums are charged one rounding for each term at the size of what is summed, products two,
functions of a library eight units in the last place of float64. Reference: Higham, Accuracy and
Stability of Numerical Algorithms, chapter 3.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import ml_dtypes
import numpy as np

from conformance.arithmetic.running import Approximate

Array: TypeAlias = np.ndarray
U64, U32 = 2.0**-53, 2.0**-24
# Units in the last place that a function of a library may be off, here and in the framework.
_FUNCTION = 8
# The same of float32, where vectorised kernels approximate: sixteen bits are left, of which TF32
# and bfloat16 keep eleven and eight. torch 2.13's GELU was seen further off than eight units.
_FUNCTION_OF_FLOAT32 = 2**8
_TINY = 2.0**-1022
_LARGEST = float(np.finfo(np.float64).max)
_NARROW = {"bf16": ml_dtypes.bfloat16, "f16": np.float16,
           "f8e4m3": ml_dtypes.float8_e4m3fn, "f8e5m2": ml_dtypes.float8_e5m2}  # fmt: skip


class Rules:
    """The rules at one unit roundoff: float64's, or that of the type in which a model runs."""

    def __init__(self, unit: float = U64) -> None:
        """Choose the precision in which every operation rounds."""
        self.unit = unit
        self._function = _FUNCTION if unit == U64 else _FUNCTION_OF_FLOAT32

    def closed(self, value: Array, error: Array) -> Approximate:
        """Settles infinities: an infinite value is exact, an error that is no number unknown."""
        value, error = np.asarray(value), np.asarray(error, dtype=np.float64)
        if value.dtype.kind in "fc":
            error = np.where(np.isinf(value), 0.0, error)
        return Approximate(value, np.where(np.isnan(error), np.inf, error))

    def exactly(self, value: Array) -> Approximate:
        """Without error."""
        value = np.asarray(value)
        return Approximate(value, np.zeros(value.shape))

    def unknown(self, value: Array) -> Approximate:
        """Of a value of which nothing is known."""
        value = np.asarray(value)
        return Approximate(value, np.full(value.shape, np.inf))

    def stored(self, x: Approximate) -> Approximate:
        """Kept in the type in which a model runs, where that is narrower than what it is now."""
        value = np.asarray(x.value)
        if self.unit == U64 or value.dtype.kind != "f":
            return x
        with np.errstate(over="ignore"):
            fits = value == value.astype(np.float32)
        return self.closed(value, x.error + np.where(fits, 0.0, self.unit * np.abs(value)))

    def moved(self, how: Callable[..., Array], *xs: Approximate) -> Approximate:
        """What only moves, repeats or leaves out elements does so to errors as well."""
        return Approximate(how(*(x.value for x in xs)), how(*(x.error for x in xs)))

    def added(self, a: Approximate, b: Approximate, value: Array) -> Approximate:
        """A sum or a difference: one rounding."""
        with np.errstate(all="ignore"):
            return self._rounded(value, a.error + b.error, 2)

    def multiplied(self, a: Approximate, b: Approximate, value: Array) -> Approximate:
        """A product: two roundings, since factors may be applied in another order."""
        with np.errstate(all="ignore"):
            x, y = np.abs(a.value), np.abs(b.value)
            carried = _product(x, b.error) + _product(y, a.error) + _product(a.error, b.error)
            return self._rounded(value, carried, 8 if value.dtype.kind == "c" else 2)

    def divided(self, a: Approximate, b: Approximate, value: Array) -> Approximate:
        """A quotient: its denominator is what it may be at least."""
        with np.errstate(all="ignore"):
            least = np.abs(b.value) - b.error
            carried = (a.error + np.abs(value) * b.error) / least
            carried = np.where((a.error == 0) & (b.error == 0), 0.0, carried)
            carried = np.where((least <= 0) & (b.error > 0), np.inf, carried)
            return self._rounded(value, carried, 16 if value.dtype.kind == "c" else 3)

    def bilinear(
        self, f: Callable[[Array, Array], Array], a: Approximate, b: Approximate,
        terms: int, value: Array | None = None,
    ) -> Approximate:  # fmt: skip
        """Sums of products with `terms` terms: dots, convolutions and what they pull back."""
        with np.errstate(all="ignore"):
            x, y = _finite(np.abs(a.value)), _finite(np.abs(b.value))
            value = f(a.value, b.value) if value is None else value
            most = f(x + a.error, y + b.error)
            carried: Array = np.zeros(most.shape)
            if a.error.any() or b.error.any():
                carried = f(x, b.error) + f(a.error, y + b.error)
            more = (terms + 4) * (self.unit * most + 2 * U64 * carried)
            more *= 4 if value.dtype.kind == "c" else 1
            return self.closed(value, carried + more + _TINY * (most > 0))

    def summed(
        self, f: Callable[[Array], Array], x: Approximate, terms: int, value: Array | None = None
    ) -> Approximate:
        """Sums with weights between 0 and 1, at most `terms` of them: also means and averages."""
        with np.errstate(all="ignore"):
            value = f(x.value) if value is None else value
            size = f(_finite(np.abs(x.value)) + x.error)
            return self.closed(value, f(x.error) + (terms + 4) * self.unit * size)

    def largest(
        self, f: Callable[..., Array], *xs: Approximate, value: Array | None = None
    ) -> Approximate:
        """Maxima and minima of any kind: both ends of the interval are those of all arguments."""
        with np.errstate(all="ignore"):
            value = f(*(x.value for x in xs)) if value is None else value
            high, low = (f(*(x.value + sign * x.error for x in xs)) for sign in (1, -1))
            carried = np.maximum(np.abs(high - value), np.abs(value - low))
            return self.closed(
                value, carried + 4 * self.unit * np.where(carried > 0, np.abs(value), 0)
            )

    def factors(self, f: Callable[[Array], Array], x: Approximate, terms: int) -> Approximate:
        """Products of at most `terms` factors, in any order."""
        with np.errstate(all="ignore"):
            size = np.abs(x.value)
            most = f(size + x.error)
            carried = np.where(f((x.error > 0) * 1.0 + 1) > 1, most - f(size), 0.0)
            return self.closed(f(x.value), carried + (4 * terms + 8) * self.unit * most + _TINY)

    def rounded(self, value: Array, carried: Array) -> Approximate:
        """A function of a library, whose arguments' errors come to this."""
        return self._rounded(value, carried, self._function)

    def monotone(
        self, f: Callable[[Array], Array], x: Approximate, value: Array | None = None
    ) -> Approximate:
        """A function that only rises or only falls: its values at both ends of the interval."""
        with np.errstate(all="ignore"):
            value = f(x.value) if value is None else value
            carried = np.zeros(np.shape(value))
            if x.error.any():
                ends = (np.abs(f(x.value + s * x.error) - value) for s in (-1, 1))
                carried = np.where(x.error == 0, 0.0, np.maximum(*ends))
                carried = np.where(np.isinf(x.error), np.inf, carried)
            return self._rounded(value, carried, self._function)

    def transformed(self, x: Approximate, axes: tuple[int, ...], value: Array) -> Approximate:
        """Fourier transforms: sums with weights on the unit circle; halves are counted twice."""
        terms = 2 * max(np.prod([max(x.value.shape[a], value.shape[a]) for a in axes]), 1)
        carried = 2 * x.error.sum(axes, keepdims=True)
        size = 2 * np.abs(x.value).sum(axes, keepdims=True) + carried
        error = carried + (terms + 8) * self.unit * size
        return self.closed(value, np.broadcast_to(error, value.shape))

    def turned(self, size: Approximate, angle: Approximate, value: Array) -> Approximate:
        """A complex number by its size and angle."""
        carried = size.error + (np.abs(size.value) + size.error) * np.minimum(angle.error, 2.0)
        return self._rounded(value, carried, 2 * self._function)

    def lipschitz(self, x: Approximate, value: Array, slope: float = 1.0) -> Approximate:
        """A function that rounds nothing and is nowhere steeper: abs, min, max and their like."""
        return self.closed(value, slope * x.error)

    def size(self, x: Approximate, value: Array) -> Approximate:
        """An absolute value, which a complex number's is rounded."""
        if x.value.dtype.kind == "c":
            return self._rounded(value, x.error, self._function)
        return self.lipschitz(x, value)

    def wave(self, x: Approximate, value: Array) -> Approximate:
        """Sine and cosine: nowhere steeper than 1, never further apart than 2."""
        return self._rounded(value, np.minimum(x.error, 2.0), self._function)

    def clipped(self, f: Callable[[Array], Array], x: Approximate, value: Array) -> Approximate:
        """Rises, nowhere steeper than 1, and rounds nothing: ReLU, clamp. Flat parts are exact."""
        with np.errstate(all="ignore"):
            wide = np.maximum(
                np.abs(f(x.value + x.error) - value), np.abs(f(x.value - x.error) - value)
            )
            flat = f(x.value + x.error) == f(x.value - x.error)
            wide = np.where(flat & (x.error < np.inf), 0.0, np.maximum(wide, x.error))
            return self.closed(value, wide)

    def is_idle(self, f: Callable[[Array], Array], value: Array) -> bool:
        """Whether a function that clips has a bound that nothing here reaches."""
        with np.errstate(all="ignore"):
            low, high = (float(np.max(f(np.full(1, end)))) for end in (-1e30, 1e30))
        return bool(
            (abs(high) < 1e30 and (value < high).all())
            or (1e-3 < abs(low) < 1e30 and (value > low).all())
        )

    def power(self, x: Approximate, exponent: float, value: Array) -> Approximate:
        """X to a constant power; the derivative is largest at one end of the interval."""
        with np.errstate(all="ignore"):
            most, least = np.abs(x.value) + x.error, np.abs(x.value) - x.error
            steep = np.maximum(most ** (exponent - 1), np.abs(least) ** (exponent - 1))
            if exponent < 1:
                steep = np.where(least <= 0, np.inf, steep)
            carried = np.where(x.error == 0, 0.0, abs(exponent) * steep * x.error)
            if exponent != int(exponent):
                carried = np.where((x.value - x.error < 0) & (x.error > 0), np.inf, carried)
            return self._rounded(value, carried, self._function + 2 * int(min(abs(exponent), 64)))

    def chosen(
        self, which: Approximate, cases: Sequence[Approximate], value: Array | None = None
    ) -> Approximate:
        """Selects; where it is not certain which, the error reaches from case to case."""
        index = which.value.astype(np.int64)
        shape = np.broadcast_shapes(index.shape, *(np.shape(c.value) for c in cases))
        index = np.broadcast_to(index, shape)
        values = [np.broadcast_to(c.value, shape) for c in cases]
        errors = [np.broadcast_to(c.error, shape) for c in cases]
        picked = np.choose(index, values) if value is None else value
        error = np.choose(index, errors)
        if which.error.any():
            with np.errstate(all="ignore"):
                reach = [
                    np.where(v == picked, 0.0, np.abs(v - picked)) + e
                    for v, e in zip(values, errors, strict=True)
                ]
            error = np.where(which.error > 0, np.maximum.reduce(reach), error)
        return Approximate(picked, error)

    def compared(self, name: str, a: Approximate, b: Approximate, value: Array) -> Approximate:
        """A comparison; its error is 1 where the intervals overlap, so that it may turn out either.

        Two numbers with the same bits are taken for one number: a maximum is compared so with
        what it is the maximum of.
        """
        with np.errstate(all="ignore"):
            reach = a.error + b.error
            apart = np.abs(a.value.astype(np.float64) - b.value.astype(np.float64))
            unsure = (apart <= reach) & (reach > 0)
        if name in ("eq", "ne"):
            unsure &= apart != 0
        return Approximate(value, unsure.astype(np.float64))

    def rounded_to(self, dtype: str, x: Approximate, *, charged: bool) -> Approximate:
        """A cast to bf16 or f16: exact where all of the interval rounds to one number.

        Where the original rounds to a narrow type itself, a right port may do so at another place:
        then the rounding is `charged`.
        """
        kind = _NARROW[dtype]

        def cast(v: Array) -> Array:
            return np.asarray(v, dtype=np.float64).astype(kind).astype(np.float64)

        with np.errstate(all="ignore"):
            value = cast(x.value)
            ends = np.maximum(
                np.abs(cast(x.value + x.error) - value), np.abs(cast(x.value - x.error) - value)
            )
            if charged:
                ends = ends + float(ml_dtypes.finfo(kind).eps) * np.abs(value)
            return self.closed(value, ends)

    def constant(self, values: Array) -> Approximate:
        """A constant in a type narrower than float64: known to a few of that type's units."""
        exact = np.asarray(values)
        if exact.dtype.kind != "f" and exact.dtype != ml_dtypes.bfloat16:
            return self.exactly(exact)
        wide = exact.astype(np.float64)
        if exact.dtype == np.float64:
            return self.stored(self.exactly(wide))
        with np.errstate(all="ignore"):
            short = (wide * 4096 == np.round(wide * 4096)) | ~np.isfinite(wide)
        unit = float(ml_dtypes.finfo(exact.dtype).eps)
        size = np.max(np.abs(wide), initial=0.0, where=np.isfinite(wide))
        return Approximate(
            wide, np.where(np.all(short), 0.0, 2 * unit * size) * np.ones(wide.shape)
        )

    def _rounded(self, value: Array, carried: Array, roundings: int) -> Approximate:
        size = np.abs(value) + carried
        size = np.where(np.isfinite(carried), np.minimum(size, _LARGEST), np.inf)
        more = roundings * self.unit * size + np.where(size > 0, _TINY, 0.0)
        return self.closed(value, carried + np.where(size > 0, more, 0.0))


def _product(a: Array, b: Array) -> Array:
    """0 · ∞ is 0 where one factor is exactly zero: an exact zero hides what is unknown."""
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def _finite(x: Array) -> Array:
    return np.where(np.isinf(x), 0.0, x)
