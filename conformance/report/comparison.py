"""The same check in several places: on several devices, or under several versions.

A place is a run of a merge (R1, R2, …, in the order of its header), a device of a run, or both.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from conformance.core.verdict import ASIDE
from conformance.run.results import Record, Run

Kind = Literal["same bits", "within bound", "other answers", "verdicts", "alone"]
_LACKS = 12  # Shards of a run that are named.
Places: TypeAlias = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Comparison:
    """One check in all its places: `operation/implementation:case`, and a record by place."""

    check: str
    places: tuple[tuple[str, Record], ...]

    @property
    def asked(self) -> tuple[tuple[str, Record], ...]:
        """The places where the check was tested."""
        return tuple((place, r) for place, r in self.places if r.status not in ASIDE)

    @property
    def kind(self) -> Kind:
        """How the places where the check was tested agree."""
        return kind_of([record for _, record in self.asked])

    @property
    def words(self) -> str:
        """Which places gave the same, in one line."""
        groups: dict[tuple[str, str | None], list[str]] = {}
        for place, record in self.asked:
            groups.setdefault((record.status, record.answer), []).append(place)
        answers = [
            f"{status}{f' {answer[:8]}' if answer else ''} on {', '.join(places)}"
            for (status, answer), places in groups.items()
        ]
        return f"{self.check}: {'; '.join(answers)}"


def kind_of(records: Sequence[Record]) -> Kind:
    """Says how the answers to one check, asked in several places, agree.

    `within bound`: right everywhere, where sums round, but not the same bits. `other answers`: the
    same verdict on other bits, or on an answer here and none there.
    """
    if len(records) < 2:
        return "alone"
    statuses = {record.status for record in records}
    if len(statuses) > 1:
        return "verdicts"
    if len({record.answer for record in records}) == 1:
        return "same bits"
    return "within bound" if statuses == {"within-bound"} else "other answers"


def labels(run: Run) -> dict[str, str]:
    """Returns the short label of each run of a merge, by its name; `legend` explains them."""
    return {part["name"]: f"R{number}" for number, part in enumerate(run.runs, start=1)}


def places(run: Run) -> Places:
    """Returns the label of each (run, device) of which there are checks."""
    label_of = labels(run)
    pairs = dict.fromkeys((record.run, record.device) for record in run.records)
    devices = Counter(name for name, _ in pairs)
    return {
        (name, device): device
        if name not in label_of
        else f"{label_of[name]}@{device}"
        if devices[name] > 1
        else label_of[name]
        for name, device in pairs
    }


def legend(run: Run) -> Iterator[str]:
    """Yields what the labels of a merge stand for, and what is not whole, one line a run."""
    for label, part in zip(labels(run).values(), run.runs, strict=True):
        lacks = ", ".join(wanting(part))
        yield f"{label}  {part['name']}{f': {lacks}' if lacks else ''}"


def cut_short(run: Run) -> str:
    """Says how a run that has no footer is not whole."""
    if not run.runs:
        return f"Cut short after {len(run.records)} of {run.header['checks']} checks"
    lacks = [
        f"{label}: {what}"
        for label, part in zip(labels(run).values(), run.runs, strict=True)
        for what in wanting(part)
    ]
    return f"Not whole ({'; '.join(lacks)})"


def wanting(run: Mapping[str, Sequence[str]]) -> list[str]:
    """Says what keeps one of a merge's runs from being whole; nothing where it is whole."""
    lacks = [
        *(f"shard {shard} is missing" for shard in run["missing"]),
        *(f"{part} was cut short" for part in run["cut_short"]),
    ]
    more = len(lacks) - _LACKS
    return lacks if more <= 0 else [*lacks[:_LACKS], f"{more} more are missing or were cut short"]


def comparisons(run: Run) -> tuple[Comparison, ...]:
    """Returns every check that was asked in more than one place, in the order of the records."""
    label_of = places(run)
    by_check: dict[str, list[tuple[str, Record]]] = {}
    for record in run.records:
        check = f"{record.operation}/{record.implementation}:{record.case}"
        by_check.setdefault(check, []).append((label_of[record.run, record.device], record))
    return tuple(
        Comparison(check, tuple(there)) for check, there in by_check.items() if len(there) > 1
    )


def tally(compared: Iterable[Comparison]) -> str:
    """Counts the checks that agree, and how, in one line."""
    counts = Counter(comparison.kind for comparison in compared)
    several = sum(counts.values()) - counts["alone"]
    words = f"{counts['same bits']} of {several} checks gave the same bits in every place"
    if counts["within bound"]:
        words += f"; {counts['within bound']} are within bound in every place, and differ"
    if counts["other answers"]:
        words += f"; {counts['other answers']} have one verdict, on other answers"
    words += f"; {counts['verdicts'] or 'none'} changed verdict"
    return words + (f"; {counts['alone']} were asked in one place alone" if counts["alone"] else "")
