import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from conformance.report.junit import text as text_of
from conformance.report.merging import merge
from conformance.report.summary import summarize
from conformance.run.results import Run
from tests.report import hostile
from tests.report.records import ENVIRONMENT, record, results

HEADER = {"checks": 5, "environment": ENVIRONMENT, "started": "2026-11-25T00:00:00.000+00:00"}
RECORDS = (
    record("a", "x", "1"),
    record("a", "y", "2", "fail", mistake="inverse-groups", reason="wrong"),
    record("a", "z", None, "timeout", reason="late"),
    record("b", "x", None, "unsupported", reason="no strides"),
    record("b", "y", "3", "known", reason="on record"),
)


def text(run):
    return text_of(summarize(run))


@pytest.fixture(scope="module")
def schema():
    return pytest.importorskip("xmlschema").XMLSchema(Path(__file__).parent / "junit.xsd")


def parsed(run):
    return ET.fromstring(text(run).encode())


@pytest.mark.parametrize("footer", [{}, None])
def test_it_is_what_ci_servers_take(schema, footer):
    schema.validate(text(Run(HEADER, RECORDS, footer)))
    schema.validate(text(Run(HEADER, (), footer)))
    schema.validate(text(hostile.run()))


def test_the_schema_refuses_what_servers_refuse(schema):
    good = text(Run(HEADER, RECORDS, {}))
    for change in (('errors="1"', 'errors="one"'), ("classname=", "class="), ("<skipped", "<skip")):
        assert good.replace(*change) != good
        assert not schema.is_valid(good.replace(*change).replace("</skipped", "</skip"))


def test_a_status_is_a_failure_an_error_or_skipped_and_never_a_silent_pass():
    root = parsed(Run(HEADER, RECORDS, {}))
    found = {
        f"{case.get('classname')}:{case.get('name')}": [one.tag for one in case]
        for case in root.iter("testcase")
    }
    assert found == {
        "channel_shuffle.a@cpu:x": [],
        "channel_shuffle.a@cpu:y": ["failure"],
        "channel_shuffle.a@cpu:z": ["error"],
        "channel_shuffle.b@cpu:x": ["skipped"],
        "channel_shuffle.b@cpu:y": ["skipped"],
    }
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "1", "1")


def test_a_failure_says_what_it_looks_like_why_and_how_to_run_it_again():
    (failure,) = parsed(Run(HEADER, RECORDS, {})).iter("failure")
    assert failure.get("type") == "inverse-groups"
    assert failure.get("message") == "wrong"
    assert failure.text == "reason: wrong\nrerun: conformance run channel_shuffle/a@cpu:y"


def test_a_run_cut_short_has_an_error_though_every_check_conforms():
    root = parsed(Run(HEADER, RECORDS[:1]))
    assert root.get("errors") == "1"
    (error,) = root.iter("error")
    assert error.get("message") == "Cut short after 1 of 5 checks"


def test_the_runs_of_a_merge_are_suites_of_their_own(tmp_path):
    files = [
        results(tmp_path / name, RECORDS[:1], packages={"torch": name}) for name in ("2.9", "2.13")
    ]
    names = [suite.get("name") for suite in parsed(merge(files)).iter("testsuite")]
    assert names == ["channel_shuffle/a@cpu R1", "channel_shuffle/a@cpu R2"]
