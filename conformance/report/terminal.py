"""The report that ends a run: a table, the failures, and what was not asked. From a `Run` alone.

Of a merge the table has a row a run, and what one check did in several places is told.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance.core.console import unfolded, visible
from conformance.core.implementations import PROMISES
from conformance.core.verdict import ASIDE, NOT_CONFORMING, STATUSES
from conformance.frameworks.precision import MEASURED
from conformance.report import agreement, averages
from conformance.report.agreement import parted
from conformance.report.bounds_used import spread
from conformance.report.comparison import comparisons, cut_short, legend, places, tally
from conformance.report.summary import findings
from conformance.run.results import Record, Run

DIFFERING = 10  # of what differs so many are shown; agreement.txt has all
FAILING = 5  # of one implementation, likewise

Key = TypeVar("Key", bound=Hashable)

_STYLES = {
    "exact": "green",
    "within-bound": "green",
    "known": "yellow",
    "unsupported": "yellow",
    "not-exercised": "yellow",
    **dict.fromkeys(NOT_CONFORMING, "bold red"),
}


def show(run: Run, console: Console) -> None:
    """Print a run: implementation × outcome, failures, what was not asked, who agreed."""
    wide = unfolded(console)
    for told in legend(run):
        wide.print(_as_it_is(told), soft_wrap=True, highlight=False)
    wide.print(_table(run))
    nothing = _without_an_answer(run)
    averaged = averages.rows(run) if len(run.runs) < 2 else []
    averaged = [row for row in averaged if row.owner.partition("@")[2] not in nothing]
    if averaged:
        wide.print()
        wide.print(_averages(averaged))
    for block in (_failures, _set_aside, _places, _agreement, _bounds, _precision, _summary):
        for line in block(run):
            wide.print(_as_it_is(line), soft_wrap=True, highlight=False)


def _as_it_is(line: Text | str) -> Text:
    """A line of which no part is markup of ours or a control code of the terminal."""
    if isinstance(line, str):
        return Text(visible(line))
    shown = visible(line.plain)
    return line if shown == line.plain else Text(shown, line.style)


def _table(run: Run) -> Table:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: dict[str, float] = defaultdict(float)
    several = len(run.runs) > 1
    place_of, nothing = places(run), _without_an_answer(run)
    for record in run.records:
        row = place_of[record.run, record.device] if several else record.owner
        if record.device in nothing and not several:
            row = f"all@{record.device}"
        counts[row][record.status] += 1
        seconds[row] += record.seconds
    used = [status for status in STATUSES if any(row[status] for row in counts.values())]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run" if several else "implementation", no_wrap=True)
    for status in used:
        table.add_column(status, justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    for name in sorted(counts):
        cells = [
            Text(
                str(counts[name][status] or "·"), _STYLES[status] if counts[name][status] else "dim"
            )
            for status in used
        ]
        table.add_row(Text(visible(name)), *cells, f"{seconds[name]:.1f}")
    return table


def _without_an_answer(run: Run) -> set[str]:
    """The devices on which everything was unsupported, which is what a device is that is not here.

    Such a device has one row for all: what was asked elsewhere is not to drown in it.
    """
    devices = {record.device for record in run.records}
    there = {record.device for record in run.records if record.status != "unsupported"}
    return devices - there if there else set()


def _averages(rows: Sequence[averages.Row]) -> Table:
    """Implementation × promise: the checks that came out as promised."""
    promises = PROMISES["gradient_mean"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("who averages what", no_wrap=True)
    for promise in promises:
        table.add_column(promise, justify="right", no_wrap=True)
    table.add_column("of which unequal shards", justify="right", no_wrap=True)
    table.add_column("several micro-batches", justify="right", no_wrap=True)
    for row in rows:
        right = averages.Tally(
            row.equal.right + row.unequal.right, row.equal.asked + row.unequal.asked
        )
        cells = [str(right) if row.promise == promise else "" for promise in promises]
        table.add_row(Text(visible(row.owner)), *cells, str(row.unequal), str(row.accumulated))
    return table


def _failures(run: Run) -> Iterator[Text | str]:
    for owner, records in _failed_by_owner(run):
        yield ""
        yield Text(f"{owner} does not conform{_of(records[0].run)}", "bold red")
        for record in records[:FAILING]:
            yield Text.assemble(
                "  ", (record.status, _STYLES[record.status]), f" {record.id}: {record.reason}"
            )
            yield Text(f"    {run.rerun(record.id)}", "dim")
        if len(records) > FAILING:
            yield f"  and {len(records) - FAILING} more, which results.jsonl has"


def _of(name: str) -> str:
    return f", in {name}" if name else ""


def _failed_by_owner(run: Run) -> Iterable[tuple[str, list[Record]]]:
    failed = _grouped((r for r in run.records if not r.conforms), attrgetter("run", "owner"))
    return [(owner, records) for (_, owner), records in failed]


def _set_aside(run: Run) -> Iterator[Text | str]:
    """What was unsupported or not exercised, and why: silence is how suites lie."""
    aside = [r for r in run.records if r.status in {*ASIDE, "known"}]
    if not aside:
        return
    yield ""
    yield Text("Not asked, or asked in vain", "bold")
    for (status, reason), records in _grouped(aside, lambda r: (r.status, r.reason)):
        names = sorted({record.implementation for record in records})
        yield Text.assemble("  ", (status, _STYLES[status]), f" × {len(records)}: {reason}")
        yield Text(f"    {', '.join(names)}", "dim")


def _places(run: Run) -> Iterator[Text | str]:
    """The same check under several versions or on several devices."""
    found = comparisons(run)
    if all(one.kind == "alone" for one in found):
        return
    yield ""
    yield Text(f"Across versions and devices: {tally(found)}", "bold")
    yield from _first([one.words for one in found if one.kind in ("verdicts", "other answers")])


def _first(lines: Sequence[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in lines[:DIFFERING])
    if len(lines) > DIFFERING:
        yield f"  and {len(lines) - DIFFERING} more that differ"


def _agreement(run: Run) -> Iterator[Text | str]:
    found = agreement.of(run)
    differing = [one for one in found if not one.everyone_agrees]
    several = [one for one in found if sum(map(len, one.answers)) > 1]
    yield ""
    yield Text(
        f"Agreement: {len(several) - len(differing)} of {len(several)} cases with more than one "
        "answer got the same bits from everybody (agreement.txt has every case)",
        "bold",
    )
    same, apart = parted(run.records)
    if apart:
        yield (
            f"  The mean of ranks is the mean of samples, bit for bit, in {len(same)} cases, and "
            f"another in {len(apart)}, whose shards are unequal"
        )
    yield from _first([one.words for one in differing])


def _bounds(run: Run) -> Iterator[Text | str]:
    """How much of their bounds right answers use: a bound is no tolerance."""
    found = spread(run.records)
    if found is not None:
        yield ""
        yield Text(
            f"Bounds: error ÷ bound of {found.count} checks is {found.median:.2g} in the median, "
            f"below {found.ninth:.2g} for nine of ten, at most {found.largest:.3g} ({found.where})",
            "bold",
        )


def _precision(run: Run) -> Iterator[Text | str]:
    """What products of matrices were measured to keep: bounds rest on it, settings promise it."""
    kept = defaultdict(list)
    for name, bits in run.header.get("environment", {}).get("precision", {}).items():
        what, _, where = name.partition(" ")
        if what == MEASURED:
            kept[bits].append(where)
    if kept:
        yield ""
    for bits, where in kept.items():
        told = f"Precision: products of matrices keep, in bits, {bits}: {', '.join(where)}"
        yield Text(told, "bold")


def _summary(run: Run) -> Iterator[Text | str]:
    told = ", ".join(f"{count} {status}" for status, count in run.counts.items())
    yield ""
    if run.footer is None:
        yield Text(f"{cut_short(run)}: {told}", "bold red")
    elif run.footer["conforms"]:
        yield Text(f"Conforms: {told}", "bold green")
    else:
        for name, records in _grouped(run.records, attrgetter("run")):
            yield from (Text(f"{one.sentence}{_of(name)}.", "bold") for one in findings(records))
        yield Text(f"Does not conform: {told}", "bold red")


def _grouped(
    records: Iterable[Record], key: Callable[[Record], Key]
) -> Iterable[tuple[Key, list[Record]]]:
    found: dict[Key, list[Record]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return found.items()
