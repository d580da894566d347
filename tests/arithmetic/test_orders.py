"""No order of a computation leaves its bound, and a rule that is broken is seen."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from conformance.arithmetic import Plain
from conformance.arithmetic.running import Running
from tests.arithmetic.layer_orders import LAYERS, conv2d, linear
from tests.arithmetic.machines import Rounding, WorstCase
from tests.arithmetic.orders import DTYPES, MACHINES, tried
from tests.arithmetic.rules import RULES, sum_of_products_and_a_bias


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
@pytest.mark.parametrize("rule", [*RULES, *LAYERS], ids=lambda rule: rule.__name__)
def test_no_order_of_a_computation_leaves_its_bound(rule, machine):
    for dtype in DTYPES:
        tally = tried(rule, machine, dtype, 2)
        assert not tally.outside, f"{dtype}: {tally}"
        assert tally.trials + 32 * tally.uncertain == 64


@pytest.mark.parametrize("rule", [*RULES, *LAYERS], ids=lambda rule: rule.__name__)
def test_bounds_are_not_far_above_the_worst_case(rule):
    """To first order and of the orders that are tried: else a mistake could hide in a bound."""
    assert tried(rule, WorstCase, "f32", 40).worst > 0.2


@pytest.mark.parametrize("rule", [sum_of_products_and_a_bias, linear, conv2d])
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_a_bias_that_is_added_with_one_rounding_is_seen(rule, machine, monkeypatch):
    def after_the_sum(self, a, b):
        return honest(self, self.stored(a), self.stored(b))

    honest = Running.add
    monkeypatch.setattr(Running, "add", after_the_sum)
    assert tried(rule, machine, "f32", 60).outside


@pytest.mark.parametrize(
    ("operation", "rule"),
    [
        ("total", "sum_of_terms"),
        ("contract", "sum_of_products"),
        ("scale", "scaling"),
        ("multiply", "three_factors"),
        ("with_roundings", "parts_of_ranks"),
        ("exp", "cross_entropy"),
    ],
)
def test_the_worst_case_is_above_a_bound_that_is_a_fifth_as_wide(operation, rule, monkeypatch):
    """Every rule is met by some order: with a fifth of its error each is found."""
    honest = getattr(Running, operation)

    def narrow(self, *arguments):
        result = honest(self, *arguments)
        formula = result.formula and replace(
            result.formula, carried=result.formula.carried / 5, unit=result.formula.unit / 5
        )
        return replace(result, error=result.error / 5, formula=formula)

    monkeypatch.setattr(Running, operation, narrow)
    chosen = next(r for r in (*RULES, *LAYERS) if r.__name__ == rule)
    assert tried(chosen, WorstCase, "f32", 200).outside


def test_terms_that_add_up_to_zero_leave_their_error_and_nothing_else():
    numbers = Running("f32")
    a, one = numbers.exactly(np.array([3.0])), numbers.exactly(np.array([1.0]))
    zero = numbers.add(one, numbers.scale(one, Fraction(-1)))
    joined = numbers.add_zero(a, zero)
    assert joined.value == 3
    assert joined.error >= 2 * 2.0**-24 * (3 + 1 + 1)  # two roundings of three terms
    assert Plain().add_zero(3.0, 1.0) == 3


def test_the_rounding_machine_fuses_as_ieee_does():
    """1 + 2^-24·(1 + 2^-23) is above the tie between 1 and its neighbour; a product that is rounded
    to float64 first, or a sum that is, is not."""
    machine = Rounding("f32")
    a, b, c = (machine.enter([x]) for x in (2.0**-24, 1 + 2.0**-23, 1.0))
    assert machine.fma(a, b, c) == 1 + 2.0**-23
    tie = machine.enter([2.0**-24 * (1 + 2.0**-23)])
    far = machine.enter([1.0 + 2.0**-23])
    assert machine.fma(machine.enter([1.0]), far, tie) == 1 + 2.0**-22
    small = machine.enter([-(2.0**-60)])
    assert machine.fma(machine.enter([2.0**-24]), machine.enter([1.0]), c) == 1
    assert machine.fma(small, small, machine.enter([1.0])) == 1
