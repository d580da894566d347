"""Markdown for the summary of a CI step, below the size that GitHub takes."""

import re
from collections import Counter
from collections.abc import Iterator

from conformance.core.console import visible
from conformance.core.verdict import ASIDE, STATUSES
from conformance.report.comparison import comparisons, cut_short, labels, legend, places, tally
from conformance.report.summary import findings
from conformance.run.results import Record, Run

# GitHub refuses a step summary of more than 1 MiB, whole.
LIMIT = 1024 * 1024 - 4096
SHOWN = 50  # failures of one run, and changed verdicts
REASON = 400  # characters of a reason


def text(run: Run, limit: int = LIMIT) -> str:
    """`summary.md`: the verdict, a table, the failures, what changed verdict, what was not asked.

    It takes less than `limit` bytes; what is left out is counted.
    """
    kept: list[str] = []
    size = 0
    lines = list(_lines(run))
    for number, line in enumerate(lines):
        size += len(line.encode("utf-8", "backslashreplace")) + 1
        if size > limit - 200:
            kept += ["", f"… and {len(lines) - number} lines more: results.jsonl has everything."]
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def _lines(run: Run) -> Iterator[str]:
    yield f"## {_verdict(run)}"
    yield ""
    for line in legend(run):
        yield f"- {plain(line)}"
    yield ""
    yield from _table(run)
    yield from _failures(run)
    yield from _across(run)
    yield from _aside(run)


def _verdict(run: Run) -> str:
    failed = sum(not record.conforms for record in run.records)
    asked = f"{failed} of {len(run.records)} checks do not conform"
    if run.footer is None:
        return f"✗ {cut_short(run)}; {asked}" if failed else f"✗ {cut_short(run)}"
    return f"✗ Does not conform: {asked}" if failed else f"✓ Conforms: {len(run.records)} checks"


def _table(run: Run) -> Iterator[str]:
    """A row a run and device, or, of one run, an operation and device."""
    label_of = places(run) if len(run.runs) > 1 else None
    rows: dict[str, Counter[str]] = {}
    seconds: dict[str, float] = {}
    for record in run.records:
        row = (
            label_of[record.run, record.device]
            if label_of is not None
            else f"{record.operation}@{record.device}"
        )
        rows.setdefault(row, Counter())[record.status] += 1
        seconds[row] = seconds.get(row, 0.0) + record.seconds
    used = [status for status in STATUSES if any(counts[status] for counts in rows.values())]
    yield f"| | {' | '.join(used)} | seconds |"
    yield "|---" + "|---:" * (len(used) + 1) + "|"
    for row, counts in rows.items():
        cells = [str(counts[status] or "·") for status in used]
        yield f"| {plain(row)} | {' | '.join(cells)} | {seconds[row]:.0f} |"


def _failures(run: Run) -> Iterator[str]:
    label_of = labels(run)
    by_run: dict[str, list[Record]] = {}
    for record in run.records:
        if not record.conforms:
            by_run.setdefault(record.run, []).append(record)
    for name, failed in by_run.items():
        yield from ("", f"### Not conforming{f' in {label_of[name]}' if name else ''}", "")
        of_run = [record for record in run.records if record.run == name]
        yield from (f"- {plain(one.sentence)}." for one in findings(of_run))
        yield ""
        for record in failed[:SHOWN]:
            reason = record.reason[:REASON] + ("…" if len(record.reason) > REASON else "")
            yield f"- **{record.status}** {code(record.id)}: {plain(reason)}"
        if len(failed) > SHOWN:
            yield f"- … and {len(failed) - SHOWN} more"
        yield from ("", f"Again: {code(run.rerun(failed[0].id))}")


def _across(run: Run) -> Iterator[str]:
    found = comparisons(run)
    if not found:
        return
    yield from ("", "### Across versions and devices", "", tally(found) + ".", "")
    changed = [one for one in found if one.kind in ("verdicts", "other answers")]
    yield from (f"- {plain(one.words)}" for one in changed[:SHOWN])
    if len(changed) > SHOWN:
        yield f"- … and {len(changed) - SHOWN} more: agreement.txt"


def _aside(run: Run) -> Iterator[str]:
    """What was not asked, or asked in vain, is as prominent as what was."""
    counts = Counter(
        (record.status, record.reason)
        for record in run.records
        if record.status in {*ASIDE, "known"}
    )
    if not counts:
        return
    yield from ("", "### Not asked, asked in vain, or known", "", "| | checks | why |")
    yield "|---|---:|---|"
    for (status, reason), count in counts.most_common(SHOWN):
        yield f"| {status} | {count} | {plain(reason[:REASON])} |"
    if len(counts) > SHOWN:
        yield f"| … | {sum(counts.values())} in all | and {len(counts) - SHOWN} reasons more |"


def plain(text: str) -> str:
    """Text as it is: in Markdown no character of it means anything, and it stays on its line."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Text as code, in a fence longer than any run of backticks in it."""
    text = visible(" ".join(text.split()))
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
