"""Bounds are tight: mistakes are outside, and what is right is far inside."""

from functools import cache

from conformance.proofs import bound_margins as calibration
from conformance.proofs.bound_margins import Margin, margins
from conformance.report.bounds_used import spread
from conformance.subjects import all_cases
from tests.report.records import record

BOUNDED = [case for case in all_cases() if case.tier == "bounded"]


@cache
def found():
    return tuple(margins(BOUNDED))


def test_no_mistake_passes_inside_a_bound():
    assert [margin for margin in found() if margin.is_hidden] == []


def test_every_bounded_case_sees_mistakes():
    assert {margin.case for margin in found()} == {case.id for case in BOUNDED}


def test_a_bound_that_is_too_loose_hides_a_mistake(monkeypatch):
    """The proof can fail: with bounds a hundred times as wide, float16 on the way is not seen."""
    honest = calibration.promised

    def loose(arrays, promise):
        scale = 100 if arrays is golden.bounds else 1
        return {name: scale * array for name, array in honest(arrays, promise).items()}

    case = next(case for case in BOUNDED if case.name == "convnet-w4-equal-k1-f32-rounding")
    golden = calibration.solve(case)
    monkeypatch.setattr(calibration, "solve", lambda _: golden)
    monkeypatch.setattr(calibration, "promised", loose)
    assert {margin.mistake for margin in margins([case]) if margin.is_hidden} == {"compressed"}


def test_at_the_bound_a_mistake_is_still_hidden():
    assert Margin("x", "y", "rank_mean", 1.0).is_hidden
    assert not Margin("x", "y", "rank_mean", 1.01).is_hidden


def within(ratio):
    return record("a", f"r{ratio}", "1", "within-bound", error_over_bound=ratio)


def test_the_spread_is_that_of_checks_within_their_bounds():
    one = spread([*(within(r / 10) for r in range(11)), record("a", "x", "1")])
    assert (one.count, one.median, one.ninth, one.largest) == (11, 0.5, 0.9, 1.0)
    assert one.where.endswith(":r1.0")


def test_one_check_is_its_own_spread_and_none_has_none():
    assert spread([within(0.25)]).median == 0.25
    assert spread([record("a", "x", "1")]) is None
