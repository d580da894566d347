"""Drawn cases are cases: they have an answer or are refused, and can be written down and read."""

import pytest
from hypothesis import HealthCheck, given, settings

from conformance.channel_shuffle import drawn as channel_shuffle
from conformance.gradient_mean import drawn as gradient_mean
from conformance.proofs.fuzz.rounds import certified
from conformance.run.case_files import read, written
from conformance.subjects import solve

few = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@few
@given(channel_shuffle.cases())
def test_a_drawn_shuffle_has_an_answer_or_a_refusal(case):
    groups, channels = case.question.groups, case.question.channels
    has_answer = groups > 0 and channels % groups == 0
    assert (case.refusal is None) == has_answer
    assert bool(solve(case).answers) == has_answer


@few
@given(channel_shuffle.cases())
def test_a_drawn_shuffle_comes_back_from_its_json(case):
    assert read(written(case)) == case


@settings(few, max_examples=25)
@given(certified("gradient_mean"))
def test_a_drawn_average_has_an_answer_and_comes_back_from_its_json(case):
    golden = solve(case)
    assert golden.answers
    assert bool(golden.bounds) == (case.question.tier == "bounded")
    assert read(written(case)) == case


@pytest.mark.parametrize(
    ("strategy", "examples"), [(channel_shuffle.cases(), 300), (gradient_mean.cases(), 30)]
)
def test_a_name_says_all_that_a_case_asks(strategy, examples):
    seen = {}

    @settings(few, max_examples=examples)
    @given(strategy)
    def draw(case):
        assert seen.setdefault(case.name, case.question) == case.question

    draw()


def test_every_kind_of_question_is_drawn():
    kinds = set()

    @settings(few, max_examples=1000)
    @given(channel_shuffle.cases())
    def draw(case):
        q = case.question
        kinds.update({q.layout, q.derivative, q.transform, q.observe, q.dtype, q.fill})
        kinds.update({len(q.shape), bool(case.refusal), bool(q.then)})

    draw()
    assert {"channels_last", "channels_last_3d", "transposed", "sliced", "expanded"} <= kinds
    assert {"vjp", "jvp", "double", "vmapped", "eager", "effects", True, 3, 4, 5} <= kinds
    assert {"quint8", "c128", "bool", "bf16", "quiet-nans", "zeros", "full-width"} <= kinds
