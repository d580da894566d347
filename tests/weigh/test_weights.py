"""Weights say what they keep, and in the suite's words what they do not."""

import json

import numpy as np
import pytest

from conformance.weighing.weights import Weights


def weights(values, **more):
    return Weights.of(values, half=1e-7, **{"world": 2, "ranks": [[0], [1]], **more})


MASK = [[1, 1, 1], [1, 0, 0]]


def test_the_mean_of_means_is_named_and_advised_against():
    one = weights([[1 / 6] * 3, [1 / 2, 0, 0]], is_item=MASK)
    one.verify("rank_mean")
    with pytest.raises(AssertionError) as raised:
        one.verify("step_mean")
    text = str(raised.value)
    assert text.startswith("mean-of-means: weights are 1/(W·n_r) where step_mean is 1/N")
    assert "rank 1, micro-batch 0: 1 item, each counts 0.5 = 1/2" in text
    assert "write: " in text


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([[1 / 2] * 3, [1 / 2, 0, 0]], "not-divided"),
        ([[1 / 8] * 3, [1 / 8, 0, 0]], "divided-twice"),
        ([[1 / 4] * 3, [0, 0, 0]], "rank-missing"),
        ([[1 / 4] * 3, [1 / 2, 0, 0]], "counted-twice"),
        ([[1.0] * 3, [1.0, 0, 0]], "sum-loss"),
    ],
)  # fmt: skip
def test_mistakes_have_their_names(values, name):
    assert name in weights(values, is_item=MASK).mistakes("step_mean")


def test_items_of_a_micro_batch_that_differ_have_no_formula():
    one = weights([[0.1, 0.2, 0.3], [0.4, 0, 0]], is_item=MASK)
    assert one.formula == "no known formula"
    with pytest.raises(AssertionError, match="do not count alike"):
        one.verify("step_mean")


def test_a_weight_that_cannot_be_told_is_never_a_pass():
    one = Weights.of([0.5, 0.5], world=1, half=[0, np.inf])
    with pytest.raises(AssertionError, match="not-exercised"):
        one.verify("step_mean")
    with pytest.raises(AssertionError, match="not-exercised"):
        Weights.of([0.0], world=1, is_item=False).verify("step_mean")


def test_weights_that_are_too_uncertain_for_a_promise_keep_none():
    known = Weights.of([[1 / 6] * 3, [1 / 6] * 3], half=1e-7, world=2, ranks=[[0], [1]])
    known.verify("step_mean")
    vague = Weights.of([[1 / 2] * 3, [1 / 2] * 3], half=0.45, world=2, ranks=[[0], [1]])
    with pytest.raises(AssertionError, match=r"not-exercised: weights are .*too uncertain"):
        vague.verify("step_mean")


def test_a_fault_counts_under_every_promise():
    one = weights([[1 / 4] * 3, [1 / 4, 0, 0]], is_item=MASK, faults=("never-synchronised: …",))
    assert one.promises == ()
    for promise in ("rank_mean", "sample_mean", "step_mean", "rank_sum"):
        with pytest.raises(AssertionError, match="never-synchronised"):
            one.verify(promise)


def test_a_promise_that_is_none_is_said():
    with pytest.raises(ValueError, match="rank_mean, sample_mean, step_mean, rank_sum"):
        weights([[1 / 4] * 3, [1 / 4, 0, 0]]).verify("mean")


def test_micro_batches_may_be_told_to_add_up():
    one = Weights.of([1 / 6] * 3 + [1 / 2], world=1, micro_batches=[0, 0, 0, 1], half=1e-7)
    one.verify("rank_mean", micro_batches="mean")
    with pytest.raises(AssertionError, match="accumulation-unscaled"):
        one.verify("rank_mean", micro_batches="sum")


def test_json_gives_the_same_weights_back():
    one = weights(
        [[1 / 6] * 3, [1 / 2, 0, 0]], is_item=MASK, counts={"s": {(0, 0, 0): 1, (0, 1, 0): 2}},
        condition=np.inf,
    )  # fmt: skip
    other = Weights.from_json(json.loads(one.to_json()))
    for name in ("values", "low", "high", "ranks", "micro_batches", "steps", "is_item"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (other.formula, other.counts, other.world) == (one.formula, one.counts, one.world)
    with pytest.raises(ValueError, match="version"):
        Weights.from_json({"format": "conformance-weights", "version": 99})
