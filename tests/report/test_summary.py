"""One summary, from which every form prints: the same numbers, whoever shows them."""

import io
import re
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from conformance.report import badge, junit, page, step_summary, terminal
from conformance.report.merging import merge
from conformance.report.summary import summarize
from conformance.run.results import Run
from tests.report.records import ENVIRONMENT, record, results

HEADER = {"checks": 5, "environment": ENVIRONMENT}
RECORDS = (
    record("torch_module", "x", "1"),
    record("torch_module", "y", "1", "known", reason="on record"),
    record("jax_jit", "x", None, "unsupported", reason="no strides"),
    record("jax_jit", "y", None, "not-exercised", reason="no module"),
    record("numpy_reshape", "x", "1", "within-bound", error_over_bound=0.5),
)


def summary(*more, footer=None, **header):
    return summarize(Run({**HEADER, **header}, (*RECORDS, *more), {} if footer is None else footer))


def test_what_was_not_tested_never_counts_as_conforming():
    assert summary().headline == "Conforms: 3 checks, 2 not tested"
    assert summary().not_tested == 2


@pytest.mark.parametrize("status", ["fail", "error", "crash", "timeout"])
def test_one_failure_is_a_run_that_does_not_conform(status):
    failed = summary(record("a", "z", None, status))
    assert failed.kind == "fails"
    assert failed.headline == "Does not conform: 1 of 6 checks"
    assert failed.verdict.startswith("Does not conform: 1 exact, ")


def test_a_run_that_was_cut_short_neither_conforms_nor_fails():
    cut = summarize(Run(HEADER, (*RECORDS, record("a", "z", "1", "fail"))))
    assert cut.kind == "cut short"
    assert cut.headline == "Cut short after 6 of 5 checks; 1 of 6 checks do not conform"


def test_a_run_that_asked_nothing_does_not_conform():
    nothing = summarize(Run(HEADER, (), {}))
    assert (nothing.kind, nothing.headline) == ("cut short", "Nothing was asked")


def test_every_form_has_the_same_verdict_and_the_same_counts():
    one = summary(record("a", "z", "2", "fail"))
    stream = io.StringIO()
    terminal.show(one, Console(file=stream))
    assert one.verdict in stream.getvalue()
    assert f"## ✗ {one.headline}" in step_summary.text(one)
    assert f"<title>{one.headline} – conformance</title>" in page.text(one)
    assert "1 of 6 fail" in badge.text(one)
    root = ET.fromstring(junit.text(one).encode())
    assert (root.get("tests"), root.get("failures")) == ("6", "1")


def test_every_form_says_why_something_was_not_tested():
    forms = [step_summary.text(summary()), page.text(summary()), junit.text(summary())]
    stream = io.StringIO()
    terminal.show(summary(), Console(file=stream))
    for text in (*forms, stream.getvalue()):
        assert re.search("no strides.*no module|no module.*no strides", text, re.DOTALL)


def test_reasons_are_counted_with_whose_they_are_the_most_frequent_first():
    again = record("torch_module", "z", None, "unsupported", reason="no strides")
    first = summary(again).reasons[0]
    assert (first.words, first.count) == ("no strides", 2)
    assert dict(first.implementations) == {"jax_jit": 1, "torch_module": 1}


def test_a_sibling_of_another_run_is_no_failure_of_this_one(tmp_path):
    files = [
        results(tmp_path / v, [record("a", "x", v, status)], packages={"torch": v})
        for v, status in (("2.9", "fail"), ("2.13", "exact"))
    ]
    (finding,) = summarize(merge(files)).findings
    assert (finding.run, finding.asked, finding.failed) == ("R1", 1, 1)


def test_a_merge_names_as_half_tested_what_no_run_tested_by_half(tmp_path):
    asked, missing = record("torch_module", "x", "1"), ("torch_module", "jax_jit")
    unsupported = [record(name, "x", None, "unsupported", reason="no torch") for name in missing]
    merged = merge(
        [
            results(tmp_path / "with", [asked, unsupported[1]]),
            results(tmp_path / "without", unsupported, packages={"numpy": "2.0"}),
        ]
    )
    assert summarize(merged).half_tested == ("channel_shuffle/jax_jit@cpu (0 of 1)",)
