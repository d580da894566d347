import numpy as np
import pytest

from conformance.core.bounds import departure
from conformance.core.checks import Check
from conformance.core.implementations import own
from conformance.core.outcomes import Answer
from conformance.gradient_mean.verdict import promised
from conformance.run.verdict import judge
from conformance.subjects import all_cases, solve

CASES = {case.name: case for case in all_cases() if case.operation == "gradient_mean"}
DDP = next(one for one in own() if one.id == "gradient_mean/torch_ddp")


def asked(name):
    case = CASES[name]
    golden = solve(case)
    right = promised(golden.answers, "rank_mean")
    return Check(DDP, case, "cpu"), golden, right


def verdict(name, change, rank=0):
    """What is said of ranks that all hold the right answer, but one."""
    check, golden, right = asked(name)
    answers = [Answer(dict(right)) for _ in range(check.ranks)]
    answers[rank] = Answer({key: change(array) for key, array in right.items()})
    return judge(check, golden, answers)


def test_what_is_inside_its_bound_says_how_far_it_got():
    found = verdict("mlp-w3-unequal-k5-f32-rounding", lambda g: np.nextafter(g, np.float32(9)))
    assert found.status == "within-bound"
    assert 0 < found.error_over_bound < 1


def test_what_is_outside_its_bound_says_where_and_how_far():
    found = verdict("mlp-w3-unequal-k5-f32-rounding", lambda g: g * np.float32(1.01), rank=2)
    assert found.status == "fail"
    assert found.error_over_bound > 1
    assert found.reason.startswith("rank 2: gradient/first.weight: ")
    assert "times the bound" in found.reason


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_outside_every_bound(value):
    wrong, ratio = departure(
        {"g": np.array([value])}, {"g": np.array([1.0])}, {"g": np.array([1e9])}
    )
    assert ratio == np.inf
    assert wrong is not None


def test_the_sign_of_a_zero_is_not_promised():
    found = verdict("linear-w2-equal-k1-f32", lambda g: np.where(g == 0, -np.float32(0), g))
    assert found.status == "exact"


def test_one_wrong_rank_is_a_failure_that_names_it():
    found = verdict("linear-w2-equal-k1-f32", lambda g: g + np.float32(1), rank=1)
    assert found.status == "fail"
    assert found.reason.startswith("rank 1: ")


def test_an_answer_with_a_missing_or_another_shape_is_a_failure():
    check, golden, right = asked("mlp-w3-unequal-k5-f32-rounding")
    short = {name: array for name, array in right.items() if name != "gradient/last.bias"}
    assert "missing" in judge(check, golden, [Answer(short)] * 3).reason
    flat = {name: array.ravel() for name, array in right.items()}
    assert "expected shape" in judge(check, golden, [Answer(flat)] * 3).reason
