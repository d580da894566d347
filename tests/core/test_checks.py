from dataclasses import replace

import pytest

from conformance.core.checks import Pattern, all_checks, asks, selected
from conformance.core.implementations import Implementation, own
from conformance.core.outcomes import UsageError
from conformance.subjects import all_cases


def declared(name, promise="copy"):
    return Implementation("channel_shuffle", name, "numpy", promise, "one_process", None, "x.py", 1)


DECLARED = [declared("torch_a", "native"), declared("jax_b")]
CHECKS = all_checks(DECLARED, all_cases(), ("cpu",))


def select(*patterns):
    return selected(DECLARED, all_cases(), ("cpu",), patterns)


@pytest.mark.parametrize(
    ("pattern", "owners"),
    [
        ("channel_shuffle", {"torch_a", "jax_b"}),
        ("channel_shuffle/torch_*", {"torch_a"}),
        ("*/jax_*:*grid*", {"jax_b"}),
        ("*@cpu", {"torch_a", "jax_b"}),
        ("channel_shuffle/jax_b@cpu:grid-c6-g2", {"jax_b"}),
    ],
)
def test_end_parts_of_a_pattern_may_be_left_out(pattern, owners):
    chosen = select(pattern)
    assert {check.implementation.name for check in chosen} == owners
    if ":" in pattern:
        assert all("grid" in check.case.name for check in chosen)


def test_several_patterns_choose_their_union_once():
    one, both = select("*/torch_a"), select("*/torch_a", "channel_shuffle")
    assert both == CHECKS
    assert one == [check for check in CHECKS if check.implementation.name == "torch_a"]


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("chanel_shuffle", "channel_shuffle"),
        ("channel_shuffle/torch_aa", "channel_shuffle/torch_a"),
        ("*/torch_a:grid-c6-g22", "grid-c6-g2"),
        ("*/torch_a@cdua", "cpu"),
    ],
)
def test_an_unknown_pattern_names_the_nearest(pattern, near):
    with pytest.raises(UsageError, match="no check matches") as caught:
        select(pattern)
    assert near in str(caught.value)


def test_a_case_is_asked_only_of_those_who_promise_it():
    asked = {(check.implementation.name, check.case.name) for check in CHECKS}
    assert ("torch_a", "rank-2") in asked
    assert ("jax_b", "rank-2") not in asked
    assert ("jax_b", "dtype-u16") in asked
    assert ("torch_a", "dtype-u16") not in asked


def test_an_id_reads_back_as_a_pattern_for_itself():
    for check in CHECKS:
        assert Pattern.parse(check.id).takes(check.implementation, check.case, check.device)


@pytest.mark.parametrize(
    ("name", "batch", "asked"),
    [("mine", "shard", False), ("mine", "whole", True), ("mine_whole_batch", "shard", True)],
)
def test_a_batch_norm_over_all_samples_is_asked_of_what_sees_the_whole_batch(name, batch, asked):
    outside = Implementation(
        "gradient_mean", name, "torch", "sample_mean", "one_process", None, "", 0
    )
    checks = all_checks([replace(outside, batch=batch)], all_cases(), ("cpu",))
    assert any("batch-norm-whole-batch" in check.id for check in checks) == asked


def test_the_suite_s_own_of_the_whole_batch_say_so_in_their_files():
    names = {
        declared.name
        for declared in own()
        for case in all_cases()
        if case.name.startswith("batch-norm-whole-batch") and asks(case, declared)
    }
    assert sorted(names) == [declared.name for declared in own() if declared.batch == "whole"]
    assert len(names) == 6
