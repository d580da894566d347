"""What an implementation says that it cannot do is unsupported, and counts neither way."""

import pytest

import conformance
from conformance.core.checks import Check, undeclared
from conformance.core.declarations import declared
from conformance.core.implementations import adapter, own
from conformance.core.outcomes import UsageError
from conformance.run.examiner import Examiner
from conformance.run.goldens import installed
from conformance.subjects import all_cases

CASES = {case.name: case for case in all_cases()}
PLAIN, REFUSED = CASES["identity-probe-f32-c6-g2"], CASES["groups-0"]
WORDS = {"framework": "numpy", "origin": "mine.py", "line": 7}
BODY = """
import conformance

@conformance.implementation("channel_shuffle", framework="{framework}"{more})
def mine(x, groups):
    raise {error}
"""


@pytest.fixture(scope="module")
def examiner():
    examiner = Examiner(installed(), timeout=60)
    yield examiner
    examiner.close()


@pytest.fixture
def verdict_of(examiner, tmp_path):
    def asked(error, case, framework="numpy", more=""):
        path = tmp_path / f"mine{len(list(tmp_path.iterdir()))}.py"
        path.write_text(BODY.format(error=error, framework=framework, more=more))
        (mine,) = adapter(str(path))
        return examiner.examine(Check(mine, case, "cpu"))[0]

    return asked


def test_it_may_be_raised_by_its_public_name(verdict_of):
    verdict = verdict_of("conformance.Unsupported('no f32')", PLAIN)
    assert (verdict.status, verdict.reason) == ("unsupported", "no f32")
    assert issubclass(conformance.Unsupported, Exception)


def test_what_is_not_implemented_is_unsupported(verdict_of):
    verdict = verdict_of("NotImplementedError('no f32')", PLAIN)
    assert verdict.status == "unsupported"
    assert verdict.reason.endswith(": no f32")


@pytest.mark.parametrize("error", ["RuntimeError('x')", "TypeError('x')", "ValueError('x')"])
def test_another_error_is_an_error(verdict_of, error):
    assert verdict_of(error, PLAIN).status == "error"


def test_where_an_error_is_asked_for_only_another_is_one(verdict_of):
    # Code that never answers would conform by the cases that ask for an error alone.
    assert verdict_of("NotImplementedError('groups')", REFUSED).status == "unsupported"
    assert verdict_of("ValueError('groups')", REFUSED).status == "exact"


def test_who_promises_torch_s_operator_to_the_letter_owes_it(verdict_of):
    pytest.importorskip("torch")
    verdict = verdict_of("NotImplementedError('x')", PLAIN, "torch", ', promise="native"')
    assert verdict.status == "error"


def mine(**words):
    return declared("channel_shuffle", "mine", **WORDS, **words)


def test_dtypes_and_dimensions_that_are_not_declared_are_not_asked():
    assert undeclared(Check(mine(), PLAIN, "cpu")) == ""
    assert undeclared(Check(mine(dtypes="f32", ndim=4), PLAIN, "cpu")) == ""
    few = mine(dtypes=("f16", "i8"), ndim=(3, 5))
    assert undeclared(Check(few, PLAIN, "cpu")) == "f32 is none of its dtypes: f16, i8"
    flat = undeclared(Check(mine(ndim=(3, 5)), PLAIN, "cpu"))
    assert flat == "it takes 3 or 5 dimensions, not 4"
    vmapped = next(
        case
        for case in CASES.values()
        if case.kind == "shuffle"
        and (case.question.transform, len(case.question.shape)) == ("vmapped", 4)
    )
    assert undeclared(Check(mine(ndim=3), vmapped, "cpu")) == ""


def test_the_suite_s_own_take_everything():
    assert not any(i.dtypes or i.ndim for i in own())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"dtypes": "float32"}, "unknown dtype 'float32'; known: f64, f32"),
        ({"ndim": 1}, "ndim=(1,) is of a shuffle's (N, C, *spatial), from 2"),
    ],
)
def test_what_means_nothing_is_one_line(words, line):
    with pytest.raises(UsageError) as caught:
        mine(**words)
    assert line in str(caught.value)
