"""Bounds of a device whose products of matrices keep fewer bits than their dtype has."""

import numpy as np
import pytest

from conformance.arithmetic import Plain
from conformance.arithmetic.running import Running
from conformance.arithmetic.system import Uncertain
from conformance.core.bounds import departure
from conformance.core.formats import Bits
from conformance.gradient_mean import definition as gradient_mean
from conformance.gradient_mean.solve import at_precision, loses
from conformance.gradient_mean.verdict import promised
from conformance.run.goldens import installed
from conformance.subjects import all_cases

BOUNDED = [
    case
    for case in all_cases()
    if getattr(case.question, "tier", "") == "bounded" and case.question.dtype == "f32"
]
GOLDENS = installed()


class Coarse(Plain):
    """Float64, but for products of matrices, whose factors are cut to so many bits."""

    def __init__(self, bits):
        self._bits = bits

    def contract(self, spec, a, b):
        return np.einsum(spec, *(cut(one, self._bits) for one in (a, b)))


def cut(values, bits):
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    return np.ldexp(np.trunc(mantissa * 2.0**bits), exponent - bits)


def answered(case, golden, bits):
    """What a device gives that is right but for its multiplier."""
    promises = case.promises or gradient_mean.PROMISES
    given = gradient_mean.answer(Coarse(bits), case.question, golden.inputs, promises)
    return {name: np.asarray(array).astype(np.float32) for name, array in given.items()}


@pytest.mark.parametrize("case", BOUNDED, ids=lambda case: case.name)
@pytest.mark.parametrize("bits", [None, Bits(24, 24), Bits(53, 53)])
def test_a_device_that_keeps_every_bit_is_held_to_the_stored_bounds(case, bits):
    golden = GOLDENS.of(case)
    assert at_precision(case, golden, bits) is golden


@pytest.mark.parametrize("bits", [8, 11, 16, 23])
@pytest.mark.parametrize("case", BOUNDED, ids=lambda case: case.name)
def test_a_right_answer_at_fewer_bits_is_within_the_wider_bounds(case, bits):
    golden = GOLDENS.of(case)
    try:
        wide = at_precision(case, golden, Bits(bits, 24))
    except Uncertain:
        return  # then the check is not exercised, and no bound is claimed
    for name, bound in golden.bounds.items():
        assert (wide.bounds[name] >= bound).all(), "never smaller"
    if case.question.observe == "noise":
        return
    given = answered(case, golden, bits)
    for promise in case.promises or gradient_mean.PROMISES:
        parts = (promised(one, promise) for one in (given, golden.answers, wide.bounds))
        found, ratio = departure(*parts)
        assert found is None, found
        assert ratio < 1


def test_tf32_is_outside_the_stored_bounds_of_some_case_and_inside_the_wider_ones():
    """Else widening would be of no use, and the bounded tier blind to TF32."""
    outside = 0
    for case in BOUNDED:
        golden = GOLDENS.of(case)
        if case.question.observe == "noise":
            continue
        given = answered(case, golden, 11)
        promise = (case.promises or gradient_mean.PROMISES)[0]
        parts = (promised(one, promise) for one in (given, golden.answers, golden.bounds))
        outside += departure(*parts)[0] is not None
    assert outside


def test_an_exact_case_is_never_widened():
    exact = next(
        case for case in all_cases() if getattr(case.question, "tier", "bounded") == "exact"
    )
    golden = GOLDENS.of(exact)
    assert at_precision(exact, golden, Bits(8, 8)) is golden


def test_a_question_of_fewer_bits_than_the_device_keeps_loses_nothing():
    case = next(c for c in BOUNDED)
    assert loses(case.question, Bits(11, 24))
    assert loses(case.question, Bits(24, 11))
    assert not loses(case.question, Bits(24, 24))


def test_a_contraction_alone_is_charged_with_the_measured_bits():
    x = np.array([[1.0, 1.0]])
    entry, full, coarse = (1 + 2.0**-10) ** 2 - 1, 2.0**-24, 2.0**-10
    for kept, rounded, unit in [
        (None, 0, full),
        (Bits(24, 24), 0, full),
        (Bits(11, 24), entry, full),
        (Bits(24, 11), 0, coarse),
    ]:
        numbers = Running("f32", kept=kept)
        a = numbers.exactly(x)
        gamma = 3 * unit / (1 - 3 * unit)  # one addition, and two roundings of a product
        expected = 2 * ((1 + rounded) * (1 + gamma) - 1)
        error = numbers.contract("ij,kj->ik", a, a).error[0, 0]
        assert error == pytest.approx(expected, rel=1e-12)
        assert numbers.add(a, a).error[0, 0] == pytest.approx(2 * full)


def test_a_sum_of_which_no_digit_is_certain_has_no_bound():
    numbers = Running("f32", kept=Bits(8, 8))
    a = numbers.exactly(np.ones((1, 200)))
    with pytest.raises(Uncertain, match="every digit after 201 roundings"):
        numbers.contract("ij,kj->ik", a, a)


def test_tf32_leaves_most_bounded_cases_their_bound():
    """Where all were uncertain, nothing would be asked of a device that multiplies so."""
    uncertain = 0
    for case in BOUNDED:
        try:
            at_precision(case, GOLDENS.of(case), Bits(11, 24))
        except Uncertain:
            uncertain += 1
    assert uncertain <= len(BOUNDED) // 2, f"{uncertain} of {len(BOUNDED)}"
