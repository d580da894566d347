"""Several steps in one check: what is handed over, what is looked at, and what ends too early."""

import numpy as np
import pytest

pytest.importorskip("torch")

from conformance.core.checks import asks
from conformance.core.declarations import declared
from conformance.core.outcomes import UsageError, WrongAnswer
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean import definition
from conformance.gradient_mean.call import Call, last_window
from conformance.gradient_mean.inputs import inputs
from conformance.gradient_mean.parts import Parts
from conformance.subjects import all_cases

QUESTION = GradientQuestion("linear", ((1, 2), (2, 1), (4, 4)), windows=(2, 1))
WORDS = {"framework": "torch", "runs": "per_rank", "origin": "mine.py", "line": 7}


def call(function, windows=(2, 1)):
    return Call(function, QUESTION, {}, (), "cpu", windows=windows)


def test_windows_are_lists_of_micro_batches_and_the_last_is_looked_at():
    def steps(model, loss, windows, group):
        assert (model, loss, group) == ("model", "loss", "group")
        yield from windows

    assert last_window(call(steps), ["a", "b", "c"], "model", "loss", "group") == ["c"]


def test_nothing_of_a_generator_runs_after_the_last_window():
    def steps(model, loss, windows, group):
        yield from windows
        raise AssertionError("after the last window")

    assert last_window(call(steps), "abc", 0, 0, 0) == ["c"]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda *_: iter(["one"]), "ended after 1 of 2 windows"),
        (lambda *_: None, "gave NoneType, where steps='several' yields every window"),
    ],
)
def test_what_is_no_loop_over_windows_is_a_wrong_answer(function, words):
    with pytest.raises(WrongAnswer, match=words):
        last_window(call(function), "abc", 0, 0, 0)


def test_the_answer_is_that_of_the_last_window_alone():
    drawn = inputs(QUESTION)
    alone, own = definition.window_of(QUESTION, drawn, -1)
    assert (alone.shards, alone.windows) == (((4, 4),), ())
    assert set(own) == {"parameter/only.weight", "parameter/only.bias", "inputs/0", "targets/0"}
    np.testing.assert_array_equal(own["inputs/0"], drawn["inputs/2"])
    parts = Parts(QUESTION, drawn, "rank_mean")
    assert parts.question == alone
    assert parts.before is not None
    assert parts.before.question.shards == ((1, 2), (2, 1))
    assert parts.before.before is None


def test_who_takes_one_window_is_not_asked_of_several():
    several = declared("gradient_mean", "mine", steps="several", **WORDS)
    one = declared("gradient_mean", "mine", **WORDS)
    asked = [case for case in all_cases() if asks(case, several)]
    assert {case for case in asked if case.kind == "average" and case.question.windows}
    assert {case for case in asked if asks(case, one)} == {
        case for case in asked if not getattr(case.question, "windows", ())
    }


@pytest.mark.parametrize("words", [{"runs": "one_process"}, {"framework": "numpy"}])
def test_steps_are_for_those_that_have_a_contract(words):
    with pytest.raises(UsageError, match="steps='several' is for torch per_rank and jax"):
        declared("gradient_mean", "mine", steps="several", **{**WORDS, **words})
