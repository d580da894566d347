"""Which question about averaged gradients kills which mistake, in the oracle's terms."""

from functools import cache

import numpy as np
import pytest

from conformance.core.checks import promises_of
from conformance.core.questions import GradientQuestion, VirtualQuestion
from conformance.gradient_mean.diagnosis import answers_of_mistakes, diagnose
from conformance.gradient_mean.parts import Parts
from conformance.gradient_mean.verdict import is_right, promised
from conformance.proofs import kill_matrix as killing
from conformance.subjects import all_cases, catalogue, solve
from tests.proofs.kills import kills_of_all

CASES = [
    case for case in all_cases() if isinstance(case.question, GradientQuestion | VirtualQuestion)
]
BY_NAME = {case.name: case for case in CASES}


@cache
def kills():
    return kills_of_all(CASES)


def test_every_mistake_is_killed_by_three_families_and_named():
    assert killing.shortcomings(kills(), CASES, "gradient_mean") == []


def test_every_pair_of_mistakes_is_told_apart_by_some_case():
    assert killing.twins(kills()) == []


def test_every_case_with_several_ranks_kills_something():
    idle = set(killing.idle(kills(), CASES))
    assert {case.id for case in CASES if case.question.world_size > 1} & idle == set()


def test_no_answer_of_a_mistake_is_given_the_name_of_another():
    assert [k for k in kills() if len(k.names) == 1 and not k.is_named] == []


def test_a_mistake_without_its_cases_is_missed():
    """The proof can fail: without ranks that start apart nobody misses the broadcast."""
    apart = {case.id for case in CASES if case.name.endswith("apart") or "-apart-" in case.name}
    fewer = [kill for kill in kills() if kill.case not in apart]
    assert "initial-broadcast-missing: killed by 0 families (none)" in killing.shortcomings(
        fewer, operation="gradient_mean"
    )


def test_the_catalogue_has_names_of_the_gradient_mean():
    assert [mistake.name for mistake in catalogue("gradient_mean")] == [
        "not-divided",
        "divided-twice",
        "squared-world",
        "never-synchronised",
        "shard-0-returned",
        "psum-loss-unsynchronised",
        "sum-loss",
        "accumulation-unscaled",
        "last-micro-batch-only",
        "no-sync-around-backward-only",
        "synchronised-too-early",
        "short-window-divided-by-k",
        "stale-gradient",
        "mean-of-micro-means",
        "local-count",
        "one-count-for-all-terms",
        "sample-share-for-token-share",
        "other-windows-count",
        "shifted-labels-counted",
        "gathered-without-gradient",
        "averaged-over-one-axis",
        "experts-scaled-by-the-group",
        "moved-after-wrapping",
        "used-in-an-earlier-micro-batch",
        "loss-scale-of-its-own",
        "step-skipped-by-one-rank",
        "world-left-in",
        "micro-batches-left-in",
        "mean-of-means",
        "padding-counted",
        "tail-dropped",
        "rank-missing",
        "initial-broadcast-missing",
        "clipped-before-averaging",
        "clipped-in-every-micro-batch",
        "norm-summed-over-replicas",
        "compressed",
        "shared-dropout-key",
        "local-batch-statistics",
        "statistics-of-ranks-averaged",
        "ranks-counted-in-dtype",
        "summed-in-dtype",
        "pass-through",
    ]


def answers_to(case_name, mistake, promise="rank_mean"):
    case = BY_NAME[case_name]
    golden = solve(case)
    parts = Parts(case.question, golden.inputs, promise)
    (found,) = (
        alternatives
        for one, alternatives in answers_of_mistakes(parts, case.question.world_size)
        if one.name == mistake
    )
    expected, bounds = promised(golden.answers, promise), promised(golden.bounds, promise)
    return parts, expected, bounds, found


def test_the_spectrometer_prints_the_factor_as_powers():
    parts, expected, bounds, found = answers_to("spectrometer-w3-n7-k5", "sum-loss")
    diagnosis = diagnose(parts, expected, bounds, found[0])
    assert diagnosis.names == ("sum-loss",)
    assert diagnosis.words.startswith("every gradient is 7 times the right one: n with W = 3")


def test_the_spectrometer_of_a_step_prints_items_and_samples_as_powers():
    name = "step-mean-token-spectrometer-w3-35-of-55-k2-f32-rounding"
    for mistake, words in (
        ("sum-loss", "35 times the right one: N with W = 3, K = 2, N = 35, S = 11"),
        ("world-left-in", "3 times the right one: W with"),
        ("micro-batches-left-in", "2 times the right one: K with"),
        ("divided-twice", "0.333333 times the right one: W^-1 with"),
    ):
        parts, expected, bounds, found = answers_to(name, mistake, "step_mean")
        diagnosis = diagnose(parts, expected, bounds, found[0])
        assert diagnosis.names == (mistake,)
        assert words in diagnosis.words


def test_the_spectrometer_of_a_step_names_tokens_that_are_masked():
    name = "step-mean-token-spectrometer-w3-35-of-55-k2-f32-rounding"
    parts, expected, bounds, found = answers_to(name, "padding-counted", "step_mean")
    ignored = diagnose(parts, expected, bounds, found[-1])
    assert ignored.names == ("padding-counted",)
    assert "20 count that should not: token" in ignored.words


def test_the_spectrometer_names_the_samples_that_are_missing():
    parts, expected, bounds, found = answers_to("spectrometer-w3-n7-k5", "rank-missing")
    evidence = diagnose(parts, expected, bounds, found[0]).words
    assert "35 of 105 samples count nothing: sample 0 of rank 0 in micro-batch 0" in evidence


def test_the_spectrometer_names_the_samples_that_are_exchanged():
    case = BY_NAME["spectrometer-w4-n2-1-4-1-k1"]
    golden = solve(case)
    expected = promised(golden.answers, "rank_mean")
    (name,) = expected
    given = {name: expected[name][:, ::-1]}  # as if the shards came in the opposite order
    evidence = diagnose(Parts(case.question, golden.inputs, "rank_mean"), expected, {}, [given])
    assert "samples count as others should: sample 0 of rank 0" in evidence.words


def test_the_spectrometer_says_how_much_too_much_a_sample_counts():
    case = BY_NAME["spectrometer-w4-n2-1-4-1-k1"]
    golden = solve(case)
    expected = promised(golden.answers, "rank_mean")
    (name,) = expected
    given = {name: expected[name] * np.where(np.arange(8) == 3, 2, 1).astype(np.float32)}
    evidence = diagnose(Parts(case.question, golden.inputs, "rank_mean"), expected, {}, [given])
    assert "1 count otherwise than they should: sample 0 of rank 2 in micro-batch 0 (2 times)" in (
        evidence.words
    )


def test_ranks_that_disagree_are_named():
    parts, expected, bounds, found = answers_to("spectrometer-w3-n7-k5", "never-synchronised")
    diagnosis = diagnose(parts, expected, bounds, found[0])
    assert diagnosis.names == ("never-synchronised",)
    assert diagnosis.words.startswith("ranks 1, 2 differ from rank 0")


def test_one_rank_that_disagrees_is_one():
    parts, expected, bounds, found = answers_to("spectrometer-w2-n4-k3", "never-synchronised")
    assert diagnose(parts, expected, bounds, found[0]).words.startswith(
        "rank 1 differs from rank 0;"
    )


def test_a_factor_that_is_nearly_one_is_no_power_of_anything():
    parts, expected, bounds, found = answers_to("spectrometer-w3-n7-k5", "compressed")
    evidence = diagnose(parts, expected, bounds, found[0]).words
    assert evidence.startswith("every gradient is 0.99")
    assert evidence.endswith(" times the right one")


def test_an_answer_like_no_mistake_gets_no_name():
    case = BY_NAME["spectrometer-w2-n4-k3"]
    golden = solve(case)
    expected = promised(golden.answers, "rank_mean")
    given = {name: array + np.float32(1) for name, array in expected.items()}
    found = diagnose(Parts(case.question, golden.inputs, "rank_mean"), expected, {}, [given] * 2)
    assert found.names == ()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_right_answer_is_right_under_every_promise(case):
    golden = solve(case)
    for promise in promises_of(case):
        expected = promised(golden.answers, promise)
        assert is_right([expected], expected, promised(golden.bounds, promise))
