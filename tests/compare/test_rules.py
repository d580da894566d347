"""The error that a rule carries is never below the true one, by exact rationals and by Arb."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from conformance.arithmetic.running import Approximate
from conformance.compare.rules import Rules

RULES = Rules()


def drawn(generator, shape, share=1e-6):
    """Values, the errors they are said to have, and a true value somewhere inside each."""
    value = generator.normal(size=shape) * 2.0 ** generator.integers(-8, 8, shape)
    error = np.abs(value) * share * generator.random(shape)
    offset = generator.uniform(-1, 1, shape)
    true = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        true[index] = Fraction(value[index]) + Fraction(error[index]) * Fraction(offset[index])
    return Approximate(value, error), true


def holds(carried, true):
    for index in np.ndindex(true.shape):
        off = abs(Fraction(float(carried.value[index])) - true[index])
        assert off <= Fraction(float(carried.error[index])), (index, float(off))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.0, 1e-12, 1e-3])
def test_sums_products_and_quotients(seed, share):
    generator = np.random.default_rng(seed)
    (a, x), (b, y) = drawn(generator, (40,), share), drawn(generator, (40,), share)
    holds(RULES.added(a, b, a.value + b.value), x + y)
    holds(RULES.multiplied(a, b, a.value * b.value), x * y)
    holds(RULES.divided(a, b, a.value / b.value), x / y)
    holds(RULES.power(a, 3.0, a.value**3), x**3)
    holds(RULES.power(a, 2.0, a.value**2), x * x)
    holds(RULES.power(a, -1.0, a.value**-1.0), 1 / x)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["as it comes", "backwards", "in pairs"])
def test_a_dot_in_any_order(seed, order):
    generator = np.random.default_rng(seed)
    (a, x), (b, y) = drawn(generator, (3, 17)), drawn(generator, (17, 2))
    if order == "backwards":
        value = np.array([[_folded(a.value[i, ::-1] * b.value[::-1, j]) for j in range(2)]
                          for i in range(3)])  # fmt: skip
    elif order == "in pairs":
        value = (a.value[:, :9] @ b.value[:9]) + (a.value[:, 9:] @ b.value[9:])
    else:
        value = a.value @ b.value
    true = np.empty((3, 2), dtype=object)
    for i, j in product(range(3), range(2)):
        true[i, j] = sum(x[i, k] * y[k, j] for k in range(17))
    holds(RULES.bilinear(lambda p, q: p @ q, a, b, 17, value), true)


def _folded(terms):
    total = 0.0
    for term in terms:
        total += term
    return total


@pytest.mark.parametrize("seed", range(4))
def test_a_sum_of_terms_that_nearly_cancel(seed):
    generator = np.random.default_rng(seed)
    a, x = drawn(generator, (30,))
    a = Approximate(np.concatenate([a.value, -a.value]), np.concatenate([a.error, a.error]))
    true = np.array([sum(x) - sum(x)], dtype=object)
    true[0] = sum(x) + sum(Fraction(v) for v in a.value[30:])
    holds(RULES.summed(lambda v: v.sum(0, keepdims=True), a, 60), true)


def arb_of(name, x):
    flint = pytest.importorskip("flint", reason="python-flint is not installed")
    ball = flint.arb(flint.fmpq(x.numerator, x.denominator))
    known = {"rsqrt": lambda b: 1 / b.sqrt(), "sigmoid": lambda b: 1 / (1 + (-b).exp())}
    return known[name](ball) if name in known else getattr(ball, name)()


FUNCTIONS = {
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "log1p": np.log1p,
    "expm1": np.expm1, "atan": np.arctan, "sinh": np.sinh, "rsqrt": lambda v: 1 / np.sqrt(v),
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*FUNCTIONS, "sin", "cos"])
@pytest.mark.parametrize("share", [0.0, 1e-9, 1e-2])
def test_functions_of_a_library(name, share):
    flint = pytest.importorskip("flint", reason="python-flint is not installed")
    flint.ctx.prec = 160
    at, true = drawn(np.random.default_rng(7), (60,), share)
    if name in ("log", "sqrt", "log1p", "rsqrt"):
        at, true = Approximate(np.abs(at.value), at.error), abs(true)
    if name in ("sin", "cos"):
        carried = RULES.wave(at, getattr(np, name)(at.value))
    else:
        carried = RULES.monotone(FUNCTIONS[name], at)
    for i, x in enumerate(true):
        off = abs(arb_of(name, x) - flint.arb(float(carried.value[i])))
        assert off <= flint.arb(float(carried.error[i])), (name, float(at.value[i]))


def test_a_selection_that_is_unsure_reaches_from_case_to_case():
    which = Approximate(np.array([True, True, False]), np.array([0.0, 1.0, 0.0]))
    low = RULES.exactly(np.array([1.0, 1.0, 1.0]))
    high = RULES.exactly(np.array([5.0, 5.0, 5.0]))
    chosen = RULES.chosen(which, (low, high))
    assert chosen.value.tolist() == [5.0, 5.0, 1.0]
    assert chosen.error.tolist() == [0.0, 4.0, 0.0]


def test_a_comparison_is_unsure_where_intervals_meet_and_the_bits_differ():
    a = Approximate(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.5, 0.5]))
    b = Approximate(np.array([1.25, 4.0, 3.0]), np.array([0.5, 0.5, 0.5]))
    assert RULES.compared("gt", a, b, a.value > b.value).error.tolist() == [1.0, 0.0, 1.0]
    assert RULES.compared("eq", a, b, a.value == b.value).error.tolist() == [1.0, 0.0, 0.0]


def test_a_relu_that_is_surely_off_is_exactly_zero():
    x = Approximate(np.array([-1.0, 1.0, 0.0]), np.array([0.5, 0.5, 0.5]))
    off = RULES.clipped(lambda v: np.maximum(v, 0), x, np.maximum(x.value, 0))
    assert off.error.tolist() == [0.0, 0.5, 0.5]


def test_a_cast_to_bfloat16_is_exact_where_all_of_the_interval_rounds_to_one_number():
    x = Approximate(np.array([1.001, 1.00390625]), np.array([1e-9, 1e-6]))
    exact = RULES.rounded_to("bf16", x, charged=False)
    assert exact.value.tolist() == [1.0, 1.0]
    assert exact.error.tolist() == [0.0, 2.0**-7]
    assert RULES.rounded_to("bf16", x, charged=True).error[0] > 0
