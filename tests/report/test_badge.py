import xml.etree.ElementTree as ET

from conformance.report.badge import text
from conformance.report.summary import summarize
from conformance.run.results import Run
from tests.report.records import record

GOOD, BAD = record("a", "x", "1"), record("a", "y", "1", "fail")


def said(run):
    return ET.fromstring(text(summarize(run))).get("aria-label")


def test_it_says_conforming_failing_and_cut_short():
    assert said(Run({}, (GOOD, GOOD), {})) == "conformance: 2 conform"
    assert said(Run({}, (GOOD, BAD), {})) == "conformance: 1 of 2 fail"
    assert said(Run({}, (GOOD,))) == "conformance: cut short after 1"
    assert said(Run({}, (GOOD, BAD))) == "conformance: 1 of 2 fail, cut short"


def test_each_has_a_colour_of_its_own():
    colours = {
        text(summarize(run)).split('fill="#')[2][:6]
        for run in (Run({}, (GOOD,), {}), Run({}, (BAD,), {}), Run({}, (GOOD,)))
    }
    assert len(colours) == 3


def test_what_was_not_tested_is_not_said_to_conform():
    aside = record("a", "z", None, "unsupported")
    assert said(Run({}, (GOOD, aside), {})) == "conformance: 1 conform"


def test_a_run_of_nothing_does_not_conform():
    assert said(Run({}, (), {})) == "conformance: nothing asked"
