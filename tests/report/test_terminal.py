import io

from rich.console import Console

from conformance.report.terminal import FAILING, show
from conformance.run.results import Run
from tests.report import hostile
from tests.report.records import record

HEADER = {"checks": 3, "environment": {"adapters": ["mine.py"]}}


def shown(records, footer=None):
    stream = io.StringIO()
    show(Run(HEADER, tuple(records), footer), Console(file=stream))
    return stream.getvalue()


def test_a_run_that_was_cut_short_says_so():
    assert "Cut short after 1 of 3 checks" in shown([record("a", "x", "1")])


def test_what_was_not_asked_is_shown_with_its_reason():
    aside = record("a", "x", None, "unsupported")
    assert "unsupported × 1" in shown([aside], {"conforms": True})


def test_a_failure_has_its_reason_and_its_rerun_line():
    out = shown([record("a", "x", "1", "fail")], {"conforms": False})
    assert "conformance run channel_shuffle/a@cpu:x --adapter mine.py" in out
    assert "Does not conform: 1 fail" in out


def test_of_many_failures_a_few_are_shown_and_the_rest_counted():
    out = shown([record("a", str(i), "1", "fail") for i in range(FAILING + 3)], {"conforms": False})
    assert out.count("conformance run channel_shuffle/a@cpu") == FAILING
    assert "and 3 more, which results.jsonl has" in out


def test_no_name_or_reason_speaks_to_the_terminal():
    loud = record("[/red]", "x", "1", "fail", reason="\x1b]0;title\x07 [bold]b[/] \u202e")
    run = hostile.run()
    stream = io.StringIO()
    show(Run(run.header, (loud, *run.records), {"conforms": False}), Console(file=stream))
    out = stream.getvalue()
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "⟨U+001B⟩]0;title [bold]b[/] ⟨U+202E⟩" in out
    assert "channel_shuffle/[/red]@cpu" in out
