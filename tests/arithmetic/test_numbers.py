from fractions import Fraction

import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from conformance.arithmetic import Lattice, Plain, Running, Uncertain, Uncertified
from conformance.arithmetic.ball import Ball, rounded
from conformance.arithmetic.running import Approximate

INTEGERS = st.lists(st.integers(-50, 50), min_size=2, max_size=6)


@given(INTEGERS, INTEGERS)
def test_the_lattice_and_plain_numbers_agree(first, second):
    n = min(len(first), len(second))
    a, b = (np.array(values[:n]) / 4 for values in (first, second))
    lattice, plain = Lattice("f32"), Plain()
    exact = lattice.contract("i,i->", lattice.exactly(a), lattice.exactly(b))
    assert exact.values == plain.contract("i,i->", a, b)


def test_a_sum_that_could_round_in_some_order_is_not_certified():
    # 2^24 + 1 − 2^24 is 1, and in f32 also 0: the absolute values add up to 2^25 + 1.
    lattice = Lattice("f32")
    terms = lattice.exactly(np.array([2.0**24, 1.0, -(2.0**24)]))
    with pytest.raises(Uncertified, match="26 bits in f32"):
        lattice.total(terms, (0,))
    assert Lattice("f64").total(terms, (0,)).values.tolist() == [1.0]


def test_terms_that_are_added_one_after_another_are_one_sum():
    lattice = Lattice("bf16")
    step = lattice.exactly(np.array(100.0))
    total = lattice.add(step, step)
    with pytest.raises(Uncertified):
        lattice.add(total, lattice.exactly(np.array(-100.0)))  # 100 − 100 + 100 fits, 300 does not


def test_a_quotient_is_certified_only_where_the_rounded_reciprocal_gives_it_too():
    lattice = Lattice("f32")
    assert lattice.scale(
        lattice.exactly(np.array([3.0, -6.0])), Fraction(1, 3)
    ).values.tolist() == [
        1.0,
        -2.0,
    ]
    with pytest.raises(Uncertified, match="dyadic"):
        lattice.scale(lattice.exactly(np.array([1.0])), Fraction(1, 3))
    # 41 is one of those whose reciprocal, rounded to f32, does not give every exact quotient.
    multiples = lattice.exactly(41.0 * np.arange(1, 200))
    with pytest.raises(Uncertified, match="rounded"):
        lattice.scale(multiples, Fraction(1, 41))


def test_the_range_of_a_dtype_is_a_limit_too():
    with pytest.raises(Uncertified, match="range"):
        Lattice("f16").exactly(np.array([2.0**-15]))
    with pytest.raises(Uncertified, match=r"bits in f16|range"):
        Lattice("f16").exactly(np.array([65536.0]))


def test_integers_that_int64_cannot_hold_are_not_computed():
    lattice = Lattice("f64")
    wide = lattice.exactly(np.array([2.0**52]))
    with pytest.raises(Uncertified, match="62 bits"):
        lattice.multiply(wide, wide)


def test_zero_at_a_relu_and_equals_at_a_max_are_uncertain():
    lattice = Lattice("f32")
    with pytest.raises(Uncertain):
        lattice.positive(lattice.exactly(np.array([1.0, 0.0])))
    with pytest.raises(Uncertain):
        lattice.largest(lattice.exactly(np.array([1.0, 1.0])), 0)
    running = Running("f32")
    factor = running.exactly(np.array([1.1]))
    square = running.multiply(factor, factor)
    with pytest.raises(Uncertain):
        running.positive(running.add(square, running.exactly(np.array([-1.21]))))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@given(values=st.lists(st.floats(-8, 8, width=16), min_size=2, max_size=40), seed=st.integers(0, 9))
def test_the_running_error_holds_for_every_order_of_summation(dtype, values, seed):
    name = {np.float32: "f32", np.float16: "f16"}[dtype]
    products = np.array(values, dtype=np.float64)
    order = np.random.default_rng(seed).permutation(len(products))
    total = dtype(0)
    for value in products[order]:
        total = dtype(total + dtype(value) * dtype(value))
    running = Running(name)
    x = running.exactly(products)
    bound = running.contract("i,i->", x, x)
    assert abs(float(total) - float(bound.value)) <= bound.error


@given(st.lists(st.floats(0.125, 8), min_size=2, max_size=40))
def test_what_a_product_carries_is_told_to_nine_digits_in_f64_too(values):
    # There the errors are as small as what float64, in which bounds are computed, rounds itself.
    error = 2.0**-53
    x = Approximate(np.array(values), np.full(len(values), error))
    product = Running("f64").contract("i,i->", x, x)
    exact = sum(2 * Fraction(value) * Fraction(error) + Fraction(error) ** 2 for value in values)
    assert product.formula is not None
    assert abs(Fraction(float(product.formula.carried)) / exact - 1) < Fraction(1, 10**9)


@given(st.lists(st.floats(0.125, 8, width=32), min_size=1, max_size=5))
def test_functions_stay_within_their_error(values):
    x = np.array(values, dtype=np.float32)
    running = Running("f32")
    start = running.exactly(x)
    for given_, bound in (
        (np.exp(x), running.exp(start)),
        (np.log(x), running.log(start)),
        (np.float32(1) / np.sqrt(x), running.rsqrt(start)),
    ):
        assert (np.abs(given_.astype(np.float64) - bound.value) <= bound.error).all()


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_balls_round_as_ieee_does(up, down):
    ball = Ball().scale(np.array([arb(up)], dtype=object), Fraction(1, down))
    assert rounded(ball, "f64")[0] == up / down  # Python's true division is correctly rounded
    assert rounded(ball, "f32")[0] == _nearest_f32(Fraction(up, down))


def _nearest_f32(exact):
    near = np.float32(exact)
    candidates = [
        near,
        np.nextafter(near, np.float32(np.inf)),
        np.nextafter(near, np.float32(-np.inf)),
    ]
    return min(
        candidates, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(np.int32)) & 1)
    )


def test_a_ball_that_rounds_in_two_ways_says_so():
    third = arb(1) / 3
    wide = np.array([arb(1) + arb(0, 1e-3) * third], dtype=object)
    with pytest.raises(Uncertain, match="raise the precision"):
        rounded(wide, "f32")
