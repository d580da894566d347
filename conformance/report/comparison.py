"""The same check in several places: on several devices, under several versions.

A place is a run of a merge (R1, R2, …, in the order of its header), a device of a run, or both.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from conformance.core.verdict import ASIDE
from conformance.run.results import Record, Run

Kind = Literal["same bits", "within bound", "other answers", "verdicts", "alone"]
Places: TypeAlias = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Comparison:
    """One check wherever it was asked: `operation/implementation:case`, and a record by place."""

    check: str
    places: tuple[tuple[str, Record], ...]

    @property
    def asked(self) -> tuple[tuple[str, Record], ...]:
        """Where it was not unsupported, and did ask something."""
        return tuple((place, r) for place, r in self.places if r.status not in ASIDE)

    @property
    def kind(self) -> Kind:
        """How the places where it was asked agree."""
        return kind_of([record for _, record in self.asked])

    @property
    def words(self) -> str:
        """Which places gave the same, in one line."""
        groups: dict[tuple[str, str | None], list[str]] = {}
        for place, record in self.asked:
            groups.setdefault((record.status, record.answer), []).append(place)
        told = [
            f"{status}{f' {answer[:8]}' if answer else ''} on {', '.join(places)}"
            for (status, answer), places in groups.items()
        ]
        return f"{self.check}: {'; '.join(told)}"


def kind_of(records: Sequence[Record]) -> Kind:
    """How the answers to one check, asked in several places, agree.

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
    """The short label of each run of a merge, by its name; `legend` tells them."""
    return {one["name"]: f"R{number}" for number, one in enumerate(run.runs, start=1)}


def places(run: Run) -> Places:
    """The label of each (run, device) of which there are checks."""
    label_of = labels(run)
    found = dict.fromkeys((record.run, record.device) for record in run.records)
    devices = Counter(name for name, _ in found)
    return {
        (name, device): device
        if name not in label_of
        else f"{label_of[name]}@{device}"
        if devices[name] > 1
        else label_of[name]
        for name, device in found
    }


def legend(run: Run) -> Iterator[str]:
    """What the labels of a merge stand for, and what is not whole, one line a run."""
    for label, one in zip(labels(run).values(), run.runs, strict=True):
        told = ", ".join(wanting(one))
        yield f"{label}  {one['name']}{f': {told}' if told else ''}"


def cut_short(run: Run) -> str:
    """How a run that has no footer is not whole."""
    if not run.runs:
        return f"Cut short after {len(run.records)} of {run.header['checks']} checks"
    told = [
        f"{label}: {what}"
        for label, one in zip(labels(run).values(), run.runs, strict=True)
        for what in wanting(one)
    ]
    return f"Not whole ({'; '.join(told)})"


def wanting(run: Mapping[str, Sequence[str]]) -> list[str]:
    """What keeps one of a merge's runs from being whole, in words; empty where it is."""
    return [
        *(f"shard {shard} is missing" for shard in run["missing"]),
        *(f"{part} was cut short" for part in run["cut_short"]),
    ]


def comparisons(run: Run) -> tuple[Comparison, ...]:
    """Every check that was asked in more than one place, in the order in which they were met."""
    label_of = places(run)
    found: dict[str, list[tuple[str, Record]]] = {}
    for record in run.records:
        check = f"{record.operation}/{record.implementation}:{record.case}"
        found.setdefault(check, []).append((label_of[record.run, record.device], record))
    return tuple(
        Comparison(check, tuple(there)) for check, there in found.items() if len(there) > 1
    )


def tally(found: Iterable[Comparison]) -> str:
    """How many checks agree, and how, in one line."""
    counts = Counter(one.kind for one in found)
    several = sum(counts.values()) - counts["alone"]
    told = f"{counts['same bits']} of {several} checks gave the same bits in every place"
    if counts["within bound"]:
        told += f"; {counts['within bound']} are within bound in every place, and differ"
    if counts["other answers"]:
        told += f"; {counts['other answers']} have one verdict, on other answers"
    told += f"; {counts['verdicts'] or 'none'} changed verdict"
    return told + (f"; {counts['alone']} were asked in one place alone" if counts["alone"] else "")
