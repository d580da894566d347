"""Two machines that run one algorithm: one rounds every operation, one adds up the worst case.

Algorithms are written over `enter`, `add`, `mul`, `div`, `fma`, `sqrt` and `exp`; the numbers are
vectors, each element of which is a trial of its own.
"""

from fractions import Fraction

import ml_dtypes
import numpy as np
from flint import arb

from conformance.arithmetic.running import UNIT_ROUNDOFF

_CARRIERS = {"f64": np.float64, "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
_EXACT_FMA = np.frompyfunc(
    lambda a, b, c: float(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))), 3, 1
)


class Rounding:
    """Rounds every operation to nearest in the dtype; what is computed is float64."""

    def __init__(self, dtype):
        self.dtype, self._carrier = dtype, _CARRIERS[dtype]

    def round(self, wide):
        with np.errstate(over="ignore"):
            return np.asarray(wide).astype(self._carrier).astype(np.float64)

    def enter(self, values):
        return np.asarray(values, np.float64)

    # Float64 has more than twice the bits of the others: these round as if they rounded once.
    def add(self, a, b):
        return self.round(a + b)

    def mul(self, a, b):
        return self.round(a * b)

    def div(self, a, b):
        return self.round(a / b)

    def sqrt(self, a):
        return self.round(np.sqrt(a))

    def exp(self, a):
        return self.round(np.exp(a))

    def log(self, a):
        return self.round(np.log(a))

    def fma(self, a, b, c):
        if self.dtype == "f64":
            return _EXACT_FMA(a, b, c).astype(np.float64)
        # The product is exact; the sum is rounded to odd, so that it may be rounded once more.
        product = a * b
        total = product + c
        back = total - product
        rest = (product - (total - back)) + (c - back)
        is_even = (total.view(np.int64) & 1) == 0
        towards = np.where(rest > 0, np.inf, -np.inf)
        return self.round(np.where((rest != 0) & is_even, np.nextafter(total, towards), total))

    def error(self, result, exact):
        """Returns how far the result is from balls."""
        pairs = zip(np.ravel(result), np.ravel(exact), strict=True)
        return np.array([float(abs(arb(float(x)) - ball).upper()) for x, ball in pairs])


class Node:
    """A vector, and what it was computed from: (node, derivative by it)."""

    def __init__(self, value, parents=(), roundings=0):
        self.value, self.parents, self.roundings = value, parents, roundings
        self.adjoint = 0.0


class WorstCase:
    """Adds up what all roundings do to the result if each is as bad as it can be, to first order.

    That is |∂result/∂δ|·u of every operation's δ, by reverse differentiation.
    """

    def __init__(self, dtype):
        self.dtype, self._unit, self._nodes = dtype, UNIT_ROUNDOFF[dtype], []

    def _noted(self, value, parents, roundings=1):
        node = Node(value, parents, roundings)
        self._nodes.append(node)
        return node

    def enter(self, values):
        return self._noted(np.asarray(values, np.float64), (), 0)

    def add(self, a, b):
        return self._noted(a.value + b.value, ((a, 1.0), (b, 1.0)))

    def mul(self, a, b):
        rounds = not (_are_powers_of_two(a.value) or _are_powers_of_two(b.value))
        return self._noted(a.value * b.value, ((a, b.value), (b, a.value)), int(rounds))

    def div(self, a, b):
        value = a.value / b.value
        slopes = ((a, 1 / b.value), (b, -value / b.value))
        return self._noted(value, slopes, int(not _are_powers_of_two(b.value)))

    def fma(self, a, b, c):
        value = a.value * b.value + c.value
        return self._noted(value, ((a, b.value), (b, a.value), (c, 1.0)))

    def sqrt(self, a):
        value = np.sqrt(a.value)
        return self._noted(value, ((a, 0.5 / value),))

    # A library's function may be off by 4 units in the last place, of up to two roundings each.
    def exp(self, a):
        value = np.exp(a.value)
        return self._noted(value, ((a, value),), 8)

    def log(self, a):
        return self._noted(np.log(a.value), ((a, 1 / a.value),), 8)

    def error(self, result, exact):
        del exact
        result.adjoint = np.ones_like(result.value)
        total = np.zeros_like(result.value)
        for node in reversed(self._nodes):
            total = total + np.abs(node.adjoint * node.value) * node.roundings * self._unit
            for parent, slope in node.parents:
                parent.adjoint = parent.adjoint + node.adjoint * slope
        return np.ravel(total)


def _are_powers_of_two(values):
    return bool((np.abs(np.frexp(values)[0]) == 0.5).all())


def drawn(rng, shape, dtype):
    """Draws values of the dtype: plain, of many magnitudes, or nearly cancelling."""
    wide = rng.normal(size=shape)
    match rng.integers(4):
        case 0:
            wide = wide * 2.0 ** rng.integers(-6, 7, size=shape)
        case 1:  # Each has a partner that nearly cancels it.
            half = len(wide) // 2
            wide[half : 2 * half] = -wide[:half] * (1 + 2.0**-6 * wide[half : 2 * half])
        case 2:
            wide[0] = wide[0] * 2.0**7
    return Rounding(dtype).round(wide)
