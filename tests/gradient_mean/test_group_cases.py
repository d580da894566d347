"""Terms, experts, clips, rarely used layers and attention: who is asked, and what is right."""

import json

import numpy as np
import pytest

from conformance.arithmetic import Plain
from conformance.core.checks import asks
from conformance.core.declarations import declared
from conformance.gradient_mean import group_cases
from conformance.gradient_mean.ask import batch_of, padded_shards, shard
from conformance.gradient_mean.definition import averaged
from conformance.gradient_mean.models import model_of
from conformance.gradient_mean.parts import Parts, norm_of, total
from conformance.proofs.kill_matrix import kills
from conformance.run.case_files import read
from conformance.subjects import all_cases, solve

AVERAGES = [case for case in all_cases() if case.kind == "average"]
CASES = group_cases.families()


def named(name, promise="rank_mean", **words):
    place = {"framework": "torch", "runs": "per_rank", "origin": "mine.py", "line": 7}
    return declared("gradient_mean", name, promise=promise, **{**place, **words})


def asked(implementation):
    return {case.name for case in AVERAGES if asks(case, implementation)}


def of(head):
    return [case for case in CASES if case.name.startswith(head)]


def test_a_plain_loop_is_asked_of_nothing_that_it_does_not_promise():
    plain = asked(named("mine")) | asked(named("mine", "step_mean"))
    assert not plain & {case.name for case in (*of("terms"), *of("clipped"), *of("rarely-used"))}
    assert {case.name for case in (*of("experts"), *of("step-mean-attention"))} <= plain


def test_a_name_says_that_terms_are_counted_apart_and_unused_parameters_found():
    terms, unused = asked(named("my_terms", "step_mean")), asked(named("my_find_unused"))
    assert {case.name for case in of("terms")} == terms - asked(named("mine", "step_mean"))
    assert {case.name for case in of("rarely-used")} == unused - asked(named("mine"))


def test_who_clips_is_asked_of_clipped_averages_alone():
    assert asked(named("mine", clip="norm")) == {case.name for case in of("clipped")}


def test_synchronised_norms_are_not_asked_of_a_loss_that_couples_samples():
    norms = asked(named("mine", "sample_mean", batch="whole"))
    assert {case.name for case in of("whole-batch-norm")} <= norms
    assert not [name for name in norms if name.startswith("coupled")]


@pytest.mark.parametrize("case", of("terms"), ids=lambda case: case.name)
def test_each_head_has_weights_of_its_own_that_add_up_to_its_counts(case):
    question, tensors = case.question, solve(case).inputs
    for k, counts in enumerate(zip(question.counts, *question.terms, strict=True)):
        batch = batch_of(question, tensors, k)
        weights = batch[-1]
        assert isinstance(weights, tuple)
        for rank, rows in enumerate(zip(*counts, strict=True)):
            own = shard(batch, question.shards[k], rank)[-1]
            assert tuple(float(w.sum()) for w in own) == rows
        padded = padded_shards(batch, question.shards[k], np.dtype("f4"))[-1]
        assert [w.sum() for w in padded] == [w.sum() for w in weights]


@pytest.mark.parametrize("case", of("terms"), ids=lambda case: case.name)
def test_the_gradients_of_the_terms_add_up(case):
    parts = Parts(case.question, solve(case).inputs, "step_mean")
    together = total([term.right for term in parts.by_term])
    for name, values in parts.right.items():
        np.testing.assert_allclose(together[name], values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", of("clipped"), ids=lambda case: case.name)
def test_a_clipped_average_has_a_norm_of_one_and_had_more(case):
    golden = solve(case)
    assert norm_of(golden.answers) == pytest.approx(1, abs=1e-6)
    assert norm_of(averaged(Plain(), case.question, golden.inputs, "rank_mean")) >= 2


@pytest.mark.parametrize("case", of("rarely-used"), ids=lambda case: case.name)
def test_the_first_micro_batch_alone_opens_what_is_rarely_used(case):
    tensors, names = solve(case).inputs, model_of(case.question).rare
    opens = [(tensors[f"inputs/{k}"][:, 0] > 0) for k in range(case.question.micro_batches)]
    assert opens[0].all()
    assert not np.concatenate(opens[1:]).any()
    right = Parts(case.question, tensors, "rank_mean").right
    assert all(right[f"{layer.name}.weight"].any() for layer in names)


def test_a_token_under_attention_does_not_see_a_later_one():
    case = of("step-mean-attention")[0]
    tensors = dict(solve(case).inputs)
    question = case.question
    # Only the first token of each sequence counts: what follows it has no gradient.
    for k in range(question.micro_batches):
        weights = np.zeros_like(tensors[f"weights/{k}"])
        weights[:, 0] = 1
        tensors[f"weights/{k}"] = weights
        tensors[f"inputs/{k}"][:, 0] = 0
        tensors[f"inputs/{k}"][:, 1:] = 7
    right = averaged(Plain(), question, tensors, "step_mean")
    assert right["words.weight"][0].any()
    assert not right["words.weight"][7].any()
    assert not right["attend.query.weight"].any()  # a softmax over one token is 1


def test_experts_alone_at_the_size_of_a_group_are_named_so():
    for case in of("experts"):
        kill = next(k for k in kills([case]) if k.mistake == "experts-scaled-by-the-group")
        assert kill.is_named


def test_a_case_from_outside_may_have_terms():
    question = {"model": "two_heads", "shards": [[2, 2]], "counts": [[2, 2]], "terms": [[[1, 1]]]}
    text = json.dumps(
        {"operation": "gradient_mean", "promises": ["step_mean"], "question": question}
    )
    assert solve(read(text)).answers
