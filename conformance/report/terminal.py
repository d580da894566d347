"""The report that ends a run, in some twenty lines; `--all` has a row for everything.

Of a merge the table has a row a run, and a check that came out otherwise in several places is
shown. A fact has a line, its label first.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.core.checks import number_of_checks
from conformance.core.console import unfolded
from conformance.core.declarations import PROMISES, averaged
from conformance.core.verdict import ASIDE, NOT_CONFORMING, STATUSES
from conformance.report import averages
from conformance.report.agreement import parted
from conformance.report.comparison import legend, tally
from conformance.report.facts import facts_of_failure
from conformance.report.findings import Finding
from conformance.report.summary import Group, Reason, Summary, grouped
from conformance.run.results import Record, Run

FAILING = 3  # Examples of different mistakes that are printed in full, of each implementation.
KINDS = 8  # Kinds of further failures that are counted.
DIFFERING = 10  # Checks that came out otherwise in another place; agreement.txt has all.
FREQUENT = 2  # Reasons beside a count.
# Characters of such a reason: what is known to differ says what to write.
_REASON = {"known": 200, "not tested": 46}
MOST_NAMED = 3  # Implementations of which less than half was tested, or mistakes that fit.
_WORDS = 160  # Characters of an error that stands for others.
_NUMBER = re.compile(r"\b\d+\b")

_STYLES = {
    "exact": "green",
    "within-bound": "green",
    "known": "yellow",
    "not tested": "yellow",
    **dict.fromkeys(ASIDE, "yellow"),
    **dict.fromkeys(("failed", *NOT_CONFORMING), "bold red"),
}


@dataclass(frozen=True)
class Line:
    """A line: a label, where there is one, padded to `width`, and words that may be wrapped."""

    words: str
    style: str = ""
    label: str = ""
    width: int = 0
    label_style: str = "bold"


Block: TypeAlias = list[Line | Table]


def show(summary: Summary, console: Console, *, everything: bool = False) -> None:
    """Prints what ran where, a table, the failures, what was not tested, and the verdict.

    Of a run in which nothing was tested a table has nothing to say: why stands in the verdict.
    """
    run = summary.run
    if summary.nothing_answered and not everything:
        _print(_untested(summary), unfolded(console))
        return
    blocks: list[Block] = [_ran(summary), [_short_table(summary.table)]]
    if everything:
        blocks += [[_whole_table(summary.owners)], _averages(run)]
    blocks += [_failures(finding, run, everything=everything) for finding in summary.findings]
    blocks += [_aside(summary), _differing(summary, everything=everything)]
    if everything:
        blocks += [_reasons(summary.reasons), _disagreeing(summary)]
    blocks.append(_ending(summary))
    wide = unfolded(console)
    for number, block in enumerate(filter(None, blocks)):
        if number:
            wide.print()
        for row in block:
            _print(row, wide)


def _print(row: Line | Table, console: Console) -> None:
    """Prints a row, of whose words none is markup of ours."""
    if isinstance(row, Table):
        console.print(row)
        return
    head = f"{row.label:<{row.width}}" if row.label else ""
    words = [row.words]
    # A line that is to be copied is left to the terminal, which copies it as one line.
    if console.is_terminal and row.label != "rerun":
        room = max(20, console.width - len(head))
        words = textwrap.wrap(words[0], room, break_on_hyphens=False) or [""]
    for number, line in enumerate(words):
        start = " " * len(head) if number else head
        text = Text.assemble((start, row.label_style if start.strip() else ""), (line, row.style))
        console.print(text, soft_wrap=True, highlight=False)


def _labelled(facts: Sequence[tuple[str, str]], style: str = "") -> Block:
    """Returns facts, a line each, the words below each other."""
    width = 2 + max((len(label) for label, _ in facts), default=0)
    return [Line(words, style, label, width) for label, words in facts]


def _ran(summary: Summary) -> Block:
    if len(summary.run.runs) > 1:
        return [Line(line) for line in legend(summary.run)]
    return _labelled(summary.facts)


def _short_table(groups: Sequence[Group]) -> Table:
    """Returns a table below 80 columns: what failed is one column, what was not tested another."""
    columns = {
        "exact": ("exact",),
        "within-\nbound": ("within-bound",),
        "failed": tuple(NOT_CONFORMING),
        "known": ("known",),
        "not\ntested": tuple(ASIDE),
    }
    table = _table("", ["checks", *columns])
    for group in groups:
        counts = [sum(group.counts[s] for s in statuses) for statuses in columns.values()]
        cells = [_cell(n, " ".join(name.split())) for n, name in zip(counts, columns, strict=True)]
        table.add_row(Text(group.name), str(len(group.records)), *cells)
    return table


def _whole_table(owners: Sequence[Group]) -> Table:
    used = [status for status in STATUSES if any(owner.counts[status] for owner in owners)]
    table = _table("implementation", [*used, "seconds"])
    for owner in sorted(owners, key=lambda owner: (owner.name, owner.run)):
        cells = [_cell(owner.counts[status], status) for status in used]
        name = Text(f"{owner.name} {owner.run}".rstrip())
        table.add_row(name, *cells, f"{owner.seconds:.1f}")
    return table


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    return table


def _cell(count: int, kind: str) -> Text:
    return Text(str(count or "·"), _STYLES.get(kind.replace("- ", "-"), "") if count else "dim")


def _averages(run: Run) -> Block:
    """Returns implementation × promise: the checks that came out as promised."""
    rows = averages.rows(run) if len(run.runs) < 2 else []
    if not rows:
        return []
    usual = PROMISES["gradient_mean"]
    promises = [p for p in (*usual, *map(averaged, usual)) if any(row.promise == p for row in rows)]
    columns = [*promises, "of which unequal shards", "several micro-batches"]
    table = _table("who averages what", columns)
    for row in rows:
        right = averages.Tally(
            row.equal.right + row.unequal.right, row.equal.asked + row.unequal.asked
        )
        cells = [str(right) if row.promise == promise else "" for promise in promises]
        table.add_row(Text(row.owner), *cells, str(row.unequal), str(row.accumulated))
    return [table]


def _failures(finding: Finding, run: Run, *, everything: bool) -> Block:
    """Returns an example of each mistake in full, the plainest first, and counts what is alike."""
    where = f", in {finding.run}" if finding.run else ""
    block: Block = [Line(f"{finding.owner} does not conform{where}", "bold red")]
    groups = grouped(finding.failures, lambda record: _kind_of(record, finding.mistake))
    # The plainest example of a mistake is one that shows no other.
    kinds = [(name, sorted(records, key=_is_unsure)) for name, records in groups.items()]
    kinds.sort(key=lambda kind: (_is_unsure(kind[1][0]), -len(kind[1])))
    examples = [records[0] for _, records in kinds[:FAILING]]
    in_full = finding.failures if everything else examples
    width = 9  # That of "mistake" and "timeout", and two blanks.
    for number, record in enumerate(in_full):
        if number:
            block.append(Line(""))
        block.append(Line(record.id, "", record.status, width, "bold red"))
        for label, words in facts_of_failure(record, run.rerun(record.id)):
            block.append(Line(words, "dim" if label == "rerun" else "", label, width))
    if everything:
        return block
    more = [(name, len(records) - (records[0] in examples)) for name, records in kinds]
    more = [(name, count) for name, count in more if count]
    if more:
        block.append(Line(""))
    block += [Line(f"{count} × {name}", "", "more", width) for name, count in more[:KINDS]]
    left = sum(count for _, count in more[KINDS:])
    return [*block, Line(f"{left} × others", "", "more", width)] if left else block


def _kind_of(record: Record, mistake: str | None) -> str:
    """Names a failure by the mistake that explains all, its own mistakes, or else its status."""
    if mistake in record.fits:
        return str(mistake)
    if len(record.fits) > MOST_NAMED:
        return f"{record.status}, which one of {len(record.fits)} mistakes cannot be told"
    if record.fits or record.status == "fail" or not record.reason:
        return " or ".join(record.fits) or f"{record.status}, no known mistake"
    # An error is known by its words: those that are equal but for numbers are one line.
    words = textwrap.shorten(_NUMBER.sub("…", record.reason), _WORDS, placeholder=" …")
    return f"{record.status}: {words}"


def _is_unsure(record: Record) -> bool:
    return len(record.fits) != 1


def _aside(summary: Summary) -> Block:
    """Returns a line each: known, not tested, agreement, and the bounds that were used."""
    facts = []
    for label, statuses in (("known", {"known"}), ("not tested", ASIDE)):
        reasons = [reason for reason in summary.reasons if reason.status in statuses]
        if reasons:
            facts.append((label, _frequent(reasons, _REASON[label])))
    if half := summary.half_tested:
        more = f" and {len(half) - MOST_NAMED} more" if len(half) > MOST_NAMED else ""
        facts.append(("below half", f"tested of {', '.join(half[:MOST_NAMED])}{more}"))
    if summary.comparisons and any(one.kind != "alone" for one in summary.comparisons):
        facts.append(("places", tally(summary.comparisons)))
    if summary.agreed:
        facts.append(("agreement", summary.agreed))
    if (used := summary.bounds) is not None:
        words = f"error ÷ bound of {used.count} checks: median {used.median:.2g}, "
        words += f"ninth decile {used.ninth:.2g}, most {used.largest:.3g}"
        facts.append(("bounds", words))
    return _labelled(facts)


def _untested(summary: Summary) -> Line:
    """Returns the verdict on a run without an answer, and why there is none."""
    words = "; ".join(reason.words for reason in summary.reasons[:FREQUENT])
    others = len(summary.reasons) - FREQUENT
    more = f"; {others} more reasons: --all" if others > 0 else ""
    return Line(f"{summary.verdict}: {words}{more}", "bold red")


def _frequent(reasons: Sequence[Reason], width: int) -> str:
    """Counts checks, and says why the most frequent ones are so."""
    count = sum(reason.count for reason in reasons)
    words = [
        f"{reason.count} × {textwrap.shorten(reason.words, width, placeholder=' …')}"
        for reason in reasons[:FREQUENT]
    ]
    others = len(reasons) - FREQUENT
    more = f"; {others} more: --all" if others > 0 else ""
    return f"{number_of_checks(count)}: {'; '.join(words)}{more}"


def _differing(summary: Summary, *, everything: bool) -> Block:
    """Returns the checks that came out otherwise under another version or on another device."""
    changed = [comparison.words for comparison in summary.changed]
    shown = changed if everything else changed[:DIFFERING]
    block: Block = [Line(words, "", "changed", 9) for words in shown]
    if len(shown) < len(changed):
        block.append(Line(f"{len(changed) - len(shown)} more: agreement.txt", "", "changed", 9))
    return block


def _reasons(reasons: Sequence[Reason]) -> Block:
    """Returns why checks are known to differ or were not tested: silence is how suites lie."""
    if not reasons:
        return []
    block: Block = [Line("Known, and not tested", "bold")]
    for reason in reasons:
        style = _STYLES[reason.status]
        label = f"{reason.status} × {reason.count}: "
        block.append(Line(reason.words, "", f"  {label}", 0, style))
        block.append(Line(f"    {', '.join(sorted(reason.implementations))}", "dim"))
    return block


def _disagreeing(summary: Summary) -> Block:
    """Returns who gave other bits than the others, case by case, and where the largest error is."""
    block: Block = [Line("Agreement, of which agreement.txt has every case", "bold")]
    same, apart = parted(summary.run.records)
    if apart:
        block.append(
            Line(
                f"  The mean of ranks is the mean of samples, bit for bit, in {len(same)} cases, "
                f"and another in {len(apart)}, whose shards are unequal"
            )
        )
    differing = (case for case in summary.agreements if not case.everyone_agrees)
    block += [Line(f"  {case.words}") for case in differing]
    if summary.bounds is not None:
        block.append(Line(f"  The largest error ÷ bound is that of {summary.bounds.where}"))
    return block


def _ending(summary: Summary) -> Block:
    """Returns what each failing implementation has in common, and the verdict."""
    style = {"conforms": "bold green", "fails": "bold red", "cut short": "bold red"}.get(
        summary.kind, "bold red"
    )
    sentences = (Line(f"{finding.sentence}.", "bold") for finding in summary.findings)
    return [*sentences, Line(summary.verdict, style)]
