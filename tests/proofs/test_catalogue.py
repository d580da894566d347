"""What is wrong with a catalogue is found when it is imported, or when it is tried."""

from dataclasses import replace

import pytest

from conformance.channel_shuffle.definition import RIGHT
from conformance.proofs import kill_matrix as killing
from conformance.subjects import all_cases, catalogue, without_doubles

CASES = {case.name: case for case in all_cases()}
PROBE = CASES["identity-probe-f32-c12-g3"]


def test_a_name_that_is_there_twice_is_refused():
    first, *_ = catalogue()
    with pytest.raises(ValueError, match="inverse-groups is there twice, in channel_shuffle and x"):
        without_doubles([first, replace(first, operation="x")])


def test_a_mistake_that_computes_the_right_answer_is_killed_by_nothing(monkeypatch):
    harmless = replace(catalogue()[0], name="harmless", answers=RIGHT)
    monkeypatch.setattr(killing, "catalogue", lambda *_: (harmless,))
    monkeypatch.setattr("conformance.channel_shuffle.diagnosis._BY_NAME", {"harmless": harmless})
    monkeypatch.setattr("conformance.channel_shuffle.verdict.MISTAKES", (harmless,))
    lines = killing.shortcomings(killing.kills([PROBE]))
    assert lines == ["harmless: killed by 0 families (none)", "harmless: no case names it"]


def test_an_unknown_name_in_a_case_is_a_shortcoming():
    odd = replace(PROBE, against=("inverse-gruops",))
    lines = killing.shortcomings(killing.kills([PROBE]), [odd])
    assert f"{odd.id}: is against inverse-gruops, which is no known mistake" in lines


def test_a_case_that_does_not_kill_what_it_is_against_is_a_shortcoming():
    odd = replace(PROBE, against=("value-changing-copy",))
    lines = killing.shortcomings(killing.kills([PROBE]), [odd])
    assert f"{odd.id}: is against value-changing-copy, and does not kill it" in lines


def test_a_case_that_kills_nothing_must_say_why():
    lines = killing.shortcomings([], [PROBE, CASES["shape-3d-n0-5"]])
    assert f"{PROBE.id}: kills nothing" in lines
    assert not any("shape-3d-n0-5" in line for line in lines)


def test_every_mistake_says_what_was_done_and_what_to_write_instead():
    for mistake in catalogue():
        assert mistake.done
        assert not mistake.done.endswith(".")
        assert mistake.advice.endswith(".")
