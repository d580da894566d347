"""JUnit XML, as CI servers read it: a suite an implementation, a case a check."""

import math
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr

from conformance.report.comparison import cut_short, labels
from conformance.report.facts import facts_of_failure
from conformance.report.summary import Summary
from conformance.run.results import Record, Run

# Readers make this of a status that is no pass. A known difference does not count, as an xfail.
_ELEMENT = {
    "fail": "failure",
    "error": "error",
    "crash": "error",
    "timeout": "error",
    "known": "skipped",
    "unsupported": "skipped",
    "not-exercised": "skipped",
}


def text(summary: Summary) -> str:
    """Makes `junit.xml`; a run that was cut short has an error, so that no reader calls it green.

    Its form is that of `junit-10.xsd` of Jenkins's xUnit plugin, which pytest's xunit2 has too.
    """
    suites = list(_suites(summary))
    total = f'tests="{sum(tests for tests, _, _, _ in suites)}"'
    failed = f'failures="{sum(failures for _, failures, _, _ in suites)}"'
    broken = f'errors="{sum(errors for _, _, errors, _ in suites)}"'
    lines = ['<?xml version="1.0" encoding="utf-8"?>']
    part = ", quick" if summary.run.quick else ", last failed" if summary.run.last_failed else ""
    lines.append(f'<testsuites name="conformance{part}" {total} {failed} {broken}>')
    lines += [line for _, _, _, whole in suites for line in whole]
    return "\n".join([*lines, "</testsuites>", ""])


def _suites(summary: Summary) -> Iterator[tuple[int, int, int, list[str]]]:
    """Yields of each suite its tests, failures and errors, and its lines."""
    run = summary.run
    label_of = labels(run)
    started = str(run.header.get("started", ""))[:19]
    named = {
        f"{owner.name} {label_of.get(owner.records[0].run, '')}".rstrip(): owner.records
        for owner in summary.owners
    }
    for name, records in sorted(named.items()):
        kinds = [_ELEMENT.get(record.status, "") for record in records]
        counts = {kind: kinds.count(kind) for kind in ("failure", "error", "skipped")}
        attributes = (
            f"tests={quoteattr(str(len(records)))} failures={quoteattr(str(counts['failure']))} "
            f"errors={quoteattr(str(counts['error']))} skipped={quoteattr(str(counts['skipped']))} "
            f"time={quoteattr(_seconds(record.seconds for record in records))} "
            f"timestamp={quoteattr(started)}"
        )
        lines = [f"<testsuite name={quoteattr(name)} {attributes}>"]
        lines += [line for record in records for line in _case(run, record, name)]
        yield len(records), counts["failure"], counts["error"], [*lines, "</testsuite>"]
    if run.footer is None:
        words = quoteattr(cut_short(run))
        lines = [
            '<testsuite name="conformance" tests="1" failures="0" errors="1">',
            '<testcase name="every check was asked" classname="conformance" time="0">',
            f'<error type="cut short" message={words}/>',
            "</testcase>",
            "</testsuite>",
        ]
        yield 1, 0, 1, lines


def _case(run: Run, record: Record, suite: str) -> Iterator[str]:
    # Servers make a tree of a class's name by its dots.
    classname = quoteattr(suite.replace(".", "_").replace("/", "."))
    head = f"<testcase name={quoteattr(record.case)} classname={classname}"
    head += f" time={quoteattr(_seconds([record.seconds]))}"
    element = _ELEMENT.get(record.status)
    if element is None:
        yield f"{head}/>"
        return
    yield f"{head}>"
    kind = record.mistake or record.status
    message = f"<{element} type={quoteattr(kind)} message={quoteattr(record.reason[:500])}"
    if record.conforms:
        yield f"{message}/>"
    else:
        facts = facts_of_failure(record, run.rerun(record.id))
        whole = escape("\n".join(f"{label}: {words}" for label, words in facts))
        yield f"{message}>{whole}</{element}>"
    yield "</testcase>"


def _seconds(values: Iterable[float]) -> str:
    """Writes a sum of times as plain digits, for servers; what is no time adds nothing."""
    return f"{sum(value for value in values if math.isfinite(value) and value >= 0):.3f}"
