"""What is named where a mistake is not all that is wrong, or is not everywhere."""

import numpy as np
import pytest

from conformance.core.checks import promises_of
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean.diagnosis import answers_of_mistakes, as_answer, diagnose
from conformance.gradient_mean.parts import Parts
from conformance.gradient_mean.verdict import is_right, promised
from conformance.subjects import all_cases, solve

GRADIENTS = [case for case in all_cases() if isinstance(case.question, GradientQuestion)]
APART = [
    case
    for case in GRADIENTS
    if case.question.starts == "different" and case.question.world_size > 1
]
BY_NAME = {case.name: case for case in GRADIENTS}
# What an implementation with each of these does to gradients, it does at its own parameters too.
WITHOUT_BROADCAST = ("not-divided", "divided-twice", "never-synchronised", "local-count")


def asked(case, promise):
    golden = solve(case)
    parts = Parts(case.question, golden.inputs, promise)
    return parts, promised(golden.answers, promise), promised(golden.bounds, promise)


@pytest.mark.parametrize("case", APART, ids=lambda case: case.name)
def test_a_mistake_of_ranks_that_start_apart_keeps_its_name(case):
    for promise in promises_of(case):
        parts, expected, bounds = asked(case, promise)
        for mistake, ways in answers_of_mistakes(parts.without_broadcast, parts.world):
            if mistake.name not in WITHOUT_BROADCAST:
                continue
            for way in ways:
                found = diagnose(parts, expected, bounds, way)
                one = "initial-broadcast-missing" in found.names  # The factor is 1 in this case.
                assert one or mistake.name in found.names, (promise, mistake.name, found)


@pytest.mark.parametrize("case", APART, ids=lambda case: case.name)
def test_a_missing_broadcast_is_named_under_every_promise(case):
    for promise in promises_of(case):
        parts, expected, bounds = asked(case, promise)
        (ways,) = (
            ways
            for mistake, ways in answers_of_mistakes(parts, parts.world)
            if mistake.name == "initial-broadcast-missing"
        )
        (way,) = ways
        if not is_right(way, expected, bounds):
            assert "initial-broadcast-missing" in diagnose(parts, expected, bounds, way).names


def own_of(parts, chosen):
    """What each rank shows whose gradients of these parameters are its own, the others the mean."""
    rights = parts.right
    return [
        as_answer(parts, {**rights, **{name: parts.own(rank)[name] for name in chosen}})
        for rank in range(parts.world)
    ]


def test_parameters_that_are_not_synchronised_are_named():
    parts, expected, bounds = asked(BY_NAME["mlp-w2-growing-k3-f32"], "rank_mean")
    biases = [name for name in parts.right if name.endswith("bias")]
    found = diagnose(parts, expected, bounds, own_of(parts, biases))
    assert found.names == ("never-synchronised",)
    assert found.words.endswith(
        f"{', '.join(f'gradient/{name}' for name in biases)} alone; the others are right"
    )


def test_a_parameter_that_is_wrong_in_another_way_gets_no_name():
    parts, expected, bounds = asked(BY_NAME["mlp-w2-growing-k3-f32"], "rank_mean")
    first, *others = expected
    given = {first: expected[first] + np.float32(1), **{name: expected[name] for name in others}}
    assert diagnose(parts, expected, bounds, [given] * 2).names == ()


def test_a_reduce_to_rank_0_is_told():
    parts, expected, bounds = asked(BY_NAME["mlp-w2-growing-k3-f32"], "rank_mean")
    garbled = {name: array * np.float32(1.25) for name, array in expected.items()}
    found = diagnose(parts, expected, bounds, [dict(expected), garbled])
    assert found.words.endswith("rank 0 alone holds the right gradients: a reduce is no all-reduce")
