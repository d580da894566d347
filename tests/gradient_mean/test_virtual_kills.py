"""What breaks at scale alone is named, and no more than that."""

import numpy as np
import pytest

from conformance.core.questions import VirtualQuestion
from conformance.gradient_mean.diagnosis import diagnose_virtual, virtual_names
from conformance.gradient_mean.verdict import promised
from conformance.gradient_mean.virtual_definition import NAME
from conformance.gradient_mean.virtual_mistakes import WRONG, Ranks
from conformance.proofs import kill_matrix as killing
from conformance.subjects import all_cases, catalogue, solve

CASES = {case.name: case for case in all_cases() if isinstance(case.question, VirtualQuestion)}


def shown(name, wrong):
    """What a wrong gradient (1, P) of a case is called."""
    golden = solve(CASES[name])
    return diagnose_virtual(
        CASES[name].question,
        golden.inputs,
        promised(golden.answers, "rank_mean"),
        {NAME: wrong},
    )


def ranks_of(name):
    return Ranks(CASES[name].question, solve(CASES[name]).inputs)


@pytest.mark.parametrize(
    ("name", "value"),
    [("virtual-alike-w4096-n1-k1-bf16", 16.0), ("virtual-alike-w4096-n1-k1-f16", 2.0)],
)
def test_a_count_in_a_narrow_dtype_ends_at_two_to_its_bits(name, value):
    right = promised(solve(CASES[name]).answers, "rank_mean")["gradient/only.weight"]
    found = shown(name, right * right.dtype.type(value))
    assert found.names == ("ranks-counted-in-dtype",)
    assert f"every gradient is {value:g} times the right one" in found.words


def test_a_sum_that_overflows_and_one_that_swallows_are_named():
    for name in ("virtual-overflowing-w4096-n1-k1-f16", "virtual-swallowed-w4096-n1-k1-bf16"):
        kills = killing.kills([CASES[name]])
        assert any(k.mistake == "summed-in-dtype" and k.is_named for k in kills), name


def test_any_one_missing_rank_of_thousands_is_seen():
    ranks = ranks_of("virtual-small-w4096-n1-k1-f32")
    for rank in (0, 77, 4095):
        wrong = ((ranks.total - ranks.own[rank]) / ranks.world).astype(np.float32)
        assert virtual_names(ranks, {NAME: wrong.reshape(1, -1)}) == ("rank-missing",)


def test_a_spectrometer_says_which_sample_is_missing():
    name = "virtual-spectrometer-w1024-n1-k1-f32"
    weights = promised(solve(CASES[name]).answers, "rank_mean")["gradient/only.weight"].copy()
    weights[0, 700] = 0
    found = shown(name, weights)
    assert found.names == ("rank-missing",)
    assert "1 of 1024 samples count nothing: sample 0 of rank 700" in found.words


def test_every_mistake_at_scale_is_in_the_catalogue():
    assert set(WRONG) <= {mistake.name for mistake in catalogue("gradient_mean")}
