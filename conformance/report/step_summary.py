"""Markdown for the summary of a CI step, below the size that GitHub takes."""

import re
from collections.abc import Iterator

from conformance.core.verdict import STATUSES
from conformance.report.comparison import labels, legend, tally
from conformance.report.summary import Summary, grouped

# GitHub refuses a step summary of more than 1 MiB, whole.
LIMIT = 1024 * 1024 - 4096
SHOWN = 50  # Failures of one run, changed verdicts, and reasons.
REASON = 400  # Characters of a reason.


def text(summary: Summary, limit: int = LIMIT) -> str:
    """Makes `summary.md`: verdict, table, failures, changed verdicts, and what was not tested.

    It takes less than `limit` bytes, and counts what is left out.
    """
    kept: list[str] = []
    size = 0
    lines = list(_lines(summary))
    for number, line in enumerate(lines):
        size += len(line.encode("utf-8", "backslashreplace")) + 1
        if size > limit - 200:
            kept += ["", f"… and {len(lines) - number} lines more: results.jsonl has everything."]
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def _lines(summary: Summary) -> Iterator[str]:
    yield f"## {'✓' if summary.kind == 'conforms' else '✗'} {summary.headline}"
    yield ""
    yield from (f"- {plain(line)}" for line in legend(summary.run))
    yield ""
    yield from _table(summary)
    yield from _failures(summary)
    yield from _across(summary)
    yield from _aside(summary)


def _table(summary: Summary) -> Iterator[str]:
    groups = summary.table
    used = [status for status in STATUSES if any(group.counts[status] for group in groups)]
    yield f"| | {' | '.join(used)} | seconds |"
    yield "|---" + "|---:" * (len(used) + 1) + "|"
    for group in groups:
        cells = [str(group.counts[status] or "·") for status in used]
        yield f"| {plain(group.name)} | {' | '.join(cells)} | {group.seconds:.0f} |"


def _failures(summary: Summary) -> Iterator[str]:
    label_of = labels(summary.run)
    failures = (record for record in summary.run.records if not record.conforms)
    for name, failed in grouped(failures, lambda record: record.run).items():
        yield from ("", f"### Not conforming{f' in {label_of[name]}' if name else ''}", "")
        yield from (
            f"- {plain(finding.sentence)}."
            for finding in summary.findings
            if finding.failures[0].run == name
        )
        yield ""
        for record in failed[:SHOWN]:
            reason = record.reason[:REASON] + ("…" if len(record.reason) > REASON else "")
            yield f"- **{record.status}** {code(record.id)}: {plain(reason)}"
        if len(failed) > SHOWN:
            yield f"- … and {len(failed) - SHOWN} more"
        yield from ("", f"Again: {code(summary.run.rerun(failed[0].id))}")


def _across(summary: Summary) -> Iterator[str]:
    if not summary.comparisons:
        return
    yield from ("", "### Across versions and devices", "", tally(summary.comparisons) + ".", "")
    yield from (f"- {plain(comparison.words)}" for comparison in summary.changed[:SHOWN])
    if len(summary.changed) > SHOWN:
        yield f"- … and {len(summary.changed) - SHOWN} more: agreement.txt"


def _aside(summary: Summary) -> Iterator[str]:
    """Yields what was not tested, as prominent as what was."""
    if not summary.reasons:
        return
    yield from ("", "### Known, and not tested", "", "| | checks | why |", "|---|---:|---|")
    for reason in summary.reasons[:SHOWN]:
        yield f"| {reason.status} | {reason.count} | {plain(reason.words[:REASON])} |"
    others = len(summary.reasons) - SHOWN
    if others > 0:
        total = sum(reason.count for reason in summary.reasons)
        yield f"| … | {total} in all | and {others} reasons more |"


def plain(text: str) -> str:
    """Escapes text: in Markdown no character of it means anything, and it stays on its line."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~!$])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Marks text as code, in a fence longer than any run of backticks in it."""
    text = " ".join(text.split())
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
