import io

from rich.console import Console

from conformance.report.terminal import sentence, show
from conformance.results import Run
from tests.report.records import record

HEADER = {"checks": 3, "environment": {"adapters": ["mine.py"]}}


def shown(records, footer=None):
    stream = io.StringIO()
    show(Run(HEADER, tuple(records), footer), Console(file=stream))
    return stream.getvalue()


def test_one_mistake_is_named_in_one_sentence():
    failed = [record("a", c, "1", "fail", "inverse-groups") for c in "xy"]
    failed.append(record("a", "z", "1", "fail"))
    told = sentence("channel_shuffle/a@cpu", failed, failed)
    assert told.endswith("3 of 3 checks do not conform: 2 read as inverse-groups; 1 cannot tell")


def test_mistakes_that_contradict_each_other_are_not_one():
    failed = [record("a", n, "1", "fail", n) for n in ("inverse-groups", "no-transpose")]
    told = sentence("channel_shuffle/a@cpu", failed, failed)
    assert "they name different mistakes: 1 × inverse-groups, 1 × no-transpose" in told


def test_a_run_that_was_cut_short_says_so():
    assert "Cut short after 1 of 3 checks" in shown([record("a", "x", "1")])


def test_what_was_not_asked_is_shown_with_its_reason():
    aside = record("a", "x", None, "unsupported")
    assert "unsupported × 1" in shown([aside], {"conforms": True})


def test_a_failure_has_its_reason_and_its_rerun_line():
    out = shown([record("a", "x", "1", "fail")], {"conforms": False})
    assert "conformance run channel_shuffle/a@cpu:x --adapter mine.py" in out
    assert "Does not conform: 1 fail" in out
