"""Who promises a mean over a step, or over micro-batches, is asked of that and of nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from conformance.core.checks import asks
from conformance.core.declarations import BY_MICRO_BATCH, USUAL, declared
from conformance.core.outcomes import UsageError
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean.ask import batch_of, padded_shards, shard
from conformance.gradient_mean.inputs import inputs
from conformance.subjects import all_cases

WORDS = {"framework": "torch", "runs": "per_rank", "origin": "mine.py", "line": 7}
CASES = [case for case in all_cases() if case.kind == "average"]


def mine(promise, **words):
    return declared("gradient_mean", "mine", promise=promise, **{**WORDS, **words})


def test_a_step_mean_is_asked_of_step_means_alone():
    step = mine("step_mean")
    asked = [case for case in CASES if asks(case, step)]
    assert len(asked) > 80
    assert all(case.question.counts for case in asked)
    for promise in BY_MICRO_BATCH:
        assert not any(asks(case, mine(promise)) for case in asked)


@pytest.mark.parametrize("promise", BY_MICRO_BATCH)
def test_averaged_micro_batches_are_asked_of_their_own_cases(promise):
    averaged = mine(promise, micro_batches="mean")
    asked = {case.name for case in CASES if asks(case, averaged)}
    assert asked
    assert not asked & {case.name for case in CASES if asks(case, mine(promise))}
    added = mine(promise, micro_batches="sum")
    assert (added.held_to, averaged.held_to) == (promise, f"micro_{promise}")
    assert replace(added, micro_batches="mean") == averaged


def test_a_case_without_promises_is_asked_of_the_usual_ones():
    anyone = next(case for case in CASES if not case.promises)
    for promise in USUAL["gradient_mean"]:
        assert asks(anyone, mine(promise))
    assert not asks(anyone, mine("step_mean"))


@pytest.mark.parametrize(
    ("promise", "words", "line"),
    [
        (
            "step_mean",
            {"micro_batches": "sum"},
            "micro_batches='sum' is for rank_mean, sample_mean, rank_sum; step_mean is said",
        ),
        ("rank_mean", {"micro_batches": "max"}, "unknown micro_batches 'max'; known: sum, mean"),
        ("step_mean", {"runs": "virtual"}, "no case asks virtual ranks for a mean over micro-"),
        ("rank_mean", {"runs": "virtual", "micro_batches": "mean"}, "no case asks virtual ranks"),
    ],
)
def test_what_excludes_each_other_is_said_in_one_line(promise, words, line):
    with pytest.raises(UsageError) as caught:
        mine(promise, **words)
    assert str(caught.value).startswith("mine.py:7: mine: ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_follow_targets_and_padding_weighs_nothing():
    question = GradientQuestion("tokens", ((1, 2),), counts=((1, 1),), items="tokens")
    batch = batch_of(question, inputs(question, ("step_mean",)), 0)
    x, y, weights = shard(batch, question.shards[0], 1)
    assert (x.shape, y.shape, weights.shape) == ((2, 4), (2, 4, 4), (2, 4))
    assert weights.sum() == 1
    padded = padded_shards(batch, question.shards[0], np.dtype("f4"))
    assert [array.shape for array in padded] == [(2, 2, 4), (2, 2, 4, 4), (2, 2, 4)]
    assert padded[-1].sum(axis=(1, 2)).tolist() == [1, 1]
    assert not padded[-1][0, 1].any()


def test_a_mean_over_no_items_is_0_with_gradient_0():
    torch = pytest.importorskip("torch")
    jax = pytest.importorskip("jax")
    from conformance.gradient_mean.jax_models import loss_of
    from conformance.gradient_mean.torch_models import Loss

    for samples in (0, 2):
        outputs = torch.ones(samples, 3, 2, requires_grad=True)
        loss = Loss("mse", "mean")(outputs, torch.zeros(samples, 3, 2), torch.zeros(samples, 3))
        loss.backward()
        assert loss.item() == 0
        assert not outputs.grad.any()
    question = GradientQuestion("tokens", ((2,),), counts=((0,),), items="tokens")
    drawn = {name: np.ones(shape, "f4") for name, shape in parameters("tokens").items()}
    loss = loss_of(question, {})
    x, y, weights = np.zeros((2, 4), int), np.zeros((2, 4, 4), "f4"), np.zeros((2, 4), "f4")
    value, grads = jax.value_and_grad(loss)(drawn, x, y, weights)
    assert value == 0
    assert not any(grad.any() for grad in grads.values())


def parameters(model):
    from conformance.gradient_mean.models import MODELS

    return MODELS[model].parameters()
