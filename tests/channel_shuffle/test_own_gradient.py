"""A gradient that an adapter brings along is what its derivatives are asked of."""

import pytest

from conformance.core.checks import all_checks
from conformance.core.implementations import adapter as adapter_of
from conformance.core.outcomes import UsageError
from conformance.run.examiner import Examiner
from conformance.run.goldens import installed
from conformance.subjects import all_cases

CASES = [
    case
    for case in all_cases()
    if case.kind == "shuffle" and case.question.derivative == "vjp" and not case.on_the_fly
]
TEXT = """
import conformance

def shuffled(x, groups):
    n, c, *spatial = x.shape
    return x.reshape(n, groups, c // groups, *spatial).swapaxes(1, 2).reshape(x.shape).copy()

def pulled(x, groups, cotangent):
    return shuffled(cotangent, GROUPS)

@conformance.implementation("channel_shuffle", framework="numpy", vjp=pulled)
def foreign(x, groups):
    return shuffled(x, groups)
"""


@pytest.fixture(scope="module")
def examiner():
    with_examiner = Examiner(installed())
    yield with_examiner
    with_examiner.close()


def verdicts(adapter, examiner, groups):
    declared = adapter_of(str(adapter(TEXT.replace("GROUPS", groups))))
    plain = [case for case in CASES if case.question.dtype == "f32" and case.question.groups > 1]
    checks = all_checks(declared, plain[:6], ["cpu"])
    return [examiner.examine(check)[0] for check in checks]


def test_a_right_gradient_conforms(adapter, examiner):
    found = verdicts(adapter, examiner, "x.shape[1] // groups")
    assert found
    assert {verdict.status for verdict in found} == {"exact"}


def test_a_wrong_gradient_is_named(adapter, examiner):
    names = {verdict.mistake for verdict in verdicts(adapter, examiner, "groups")}
    assert "forward-permutation-in-backward" in names


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("pulled(x, groups, cotangent)", "pulled(x)", "vjp cannot be called with (x, groups, cot"),
        (
            '"channel_shuffle", framework="numpy"',
            '"gradient_mean", framework="numpy", runs="virtual"',
            "vjp is of channel_shuffle",
        ),
    ],
)
def test_what_is_no_gradient_of_a_shuffle_is_one_line(adapter, before, after, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        adapter_of(str(adapter(TEXT.replace(before, after).replace("GROUPS", "groups"))))
