"""A run, grouped once: what the terminal, the page and every file beside results.jsonl print from.

It knows records and what they have in common. How that looks, each form knows for itself.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

from conformance.core.checks import number_of_checks
from conformance.core.verdict import ASIDE
from conformance.report import agreement, comparison
from conformance.report.agreement import Agreement
from conformance.report.bounds_used import Spread, spread
from conformance.report.comparison import Comparison, cut_short, labels, places
from conformance.report.declarations import declarations
from conformance.report.facts import facts_of
from conformance.report.findings import Finding, findings
from conformance.report.printable import printable
from conformance.run.results import Record, Run

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Group:
    """Checks that belong together; `run` is the label of their run, where there are several."""

    name: str
    records: tuple[Record, ...]
    run: str = ""

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many checks came to each status."""
        return Counter(record.status for record in self.records)

    @property
    def failures(self) -> tuple[Record, ...]:
        """The checks that do not conform."""
        return tuple(record for record in self.records if not record.conforms)

    @property
    def seconds(self) -> float:
        """How long the checks took, one after the other."""
        return sum(record.seconds for record in self.records)


@dataclass(frozen=True)
class Reason:
    """Why checks are known to differ, or were not tested, and whose checks they are."""

    status: str
    words: str
    implementations: Mapping[str, int]

    @property
    def count(self) -> int:
        """How many checks have this reason."""
        return sum(self.implementations.values())


@dataclass(frozen=True)
class Summary:
    """All that the reports say of a run.

    Attributes:
        run: the run.
        facts: what it ran on: a label and its words.
        table: the checks by operation and framework (and device, of several); in a merge by run.
        owners: the checks of each implementation on each device.
        findings: what the failures of each implementation have in common.
        reasons: of known differences and of what was not tested, the most frequent first.
        bounds: how much of their bounds right answers take.
        agreements: who gave the same bits.
        comparisons: the checks that were asked in several places.
    """

    run: Run
    facts: tuple[tuple[str, str], ...]
    table: tuple[Group, ...]
    owners: tuple[Group, ...]
    findings: tuple[Finding, ...]
    reasons: tuple[Reason, ...]
    bounds: Spread | None
    agreements: tuple[Agreement, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def total(self) -> int:
        """How many checks there are."""
        return len(self.run.records)

    @cached_property
    def failed(self) -> int:
        """How many checks do not conform."""
        return sum(not record.conforms for record in self.run.records)

    @cached_property
    def not_tested(self) -> int:
        """How many checks were unsupported, or asked nothing."""
        return sum(record.status in ASIDE for record in self.run.records)

    @property
    def kind(self) -> Literal["conforms", "fails", "cut short", "nothing tested"]:
        """Whether the run conforms; cut short, or without an answer, it does neither."""
        if self.run.footer is None or not self.total:
            return "cut short"
        if self.failed:
            return "fails"
        return "nothing tested" if self.run.untested else "conforms"

    @property
    def nothing_answered(self) -> bool:
        """Whether the run went to its end, and no check of it got an answer."""
        return self.kind == "nothing tested" and self.not_tested == self.total

    @property
    def half_tested(self) -> tuple[str, ...]:
        """The implementations of which less than half was tested, as `NAME (n of m)`.

        Of several runs the one counts that tested most: some may lack a framework.
        """
        most: dict[str, tuple[int, int]] = {}
        for owner in self.owners:
            counts = sum(record.is_tested for record in owner.records), len(owner.records)
            best = most.setdefault(owner.name, counts)
            if counts[0] * best[1] > best[0] * counts[1]:
                most[owner.name] = counts
        return tuple(f"{name} ({n} of {m})" for name, (n, m) in most.items() if 2 * n < m)

    @property
    def headline(self) -> str:
        """The verdict, with how many checks it rests on."""
        fail = f"{self.failed} of {self.total} checks"
        if self.run.footer is None:
            return cut_short(self.run) + (f"; {fail} do not conform" if self.failed else "")
        if self.failed:
            return f"Does not conform: {fail}"
        if not self.total:
            return "Nothing was asked"
        if self.run.untested:
            return f"{self._nothing}: {number_of_checks(self.total)}"
        aside = f", {self.not_tested} not tested" if self.not_tested else ""
        return f"{self._conforms}: {number_of_checks(self.total - self.not_tested)}{aside}"

    @property
    def verdict(self) -> str:
        """The verdict, with how many checks came to each status."""
        counts = ", ".join(f"{count} {status}" for status, count in self.run.counts.items())
        counts = counts or "no check was asked"
        if self.run.footer is None:
            return f"{cut_short(self.run)}: {counts}"
        if not self.failed and self.run.untested:
            return f"{self._nothing}: {counts}"
        return f"{'Does not conform' if self.failed else self._conforms}: {counts}"

    @property
    def _conforms(self) -> str:
        """The word of a run without a failure; one that asked a part says so."""
        if (again := self.run.last_failed) is not None:
            return f"Conforms, what failed last: {again[0]} of {again[1]} checks"
        if (quick := self.run.quick) is None:
            return "Conforms"
        return f"Conforms, quick: {quick[0]} of {quick[1]} cases"

    @property
    def _nothing(self) -> str:
        untested = self.run.untested
        whose = "" if untested == ("the run",) else f" of {', '.join(untested[:3])}"
        return f"Nothing was tested{whose}"

    @property
    def agreed(self) -> str:
        """How many cases got the same bits from all; empty where nobody can disagree."""
        several = [case for case in self.agreements if case.count > 1]
        same = sum(case.everyone_agrees for case in several)
        words = f"{same} of {len(several)} cases with several answers got the same bits from all"
        return words if several else ""

    @property
    def changed(self) -> tuple[Comparison, ...]:
        """The checks that came out otherwise in another place."""
        return tuple(c for c in self.comparisons if c.kind in ("verdicts", "other answers"))


def summarize(run: Run) -> Summary:
    """Groups a run, whose texts are made fit for every form first."""
    run = printable(run)
    several = len(run.runs) > 1
    label_of = labels(run)
    by_run = grouped(run.records, lambda record: record.run)
    owners = grouped(run.records, lambda record: (record.run, record.owner))
    return Summary(
        run,
        facts_of(run),
        _by_place(run) if several else _by_framework(run),
        tuple(
            Group(owner, tuple(records), label_of.get(name, name) if several else "")
            for (name, owner), records in owners.items()
        ),
        tuple(
            finding
            for name, records in by_run.items()
            for finding in findings(records, label_of.get(name, name) if several else "")
        ),
        _reasons(run.records),
        spread(run.records),
        agreement.of(run),
        comparison.comparisons(run),
    )


def grouped(records: Iterable[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    """Returns records by key, in the order in which each key was met."""
    groups: dict[Key, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _by_place(run: Run) -> tuple[Group, ...]:
    """Groups a merge: one group a run, or a run and device."""
    place_of = places(run)
    groups = grouped(run.records, lambda record: place_of[record.run, record.device])
    return tuple(Group(name, tuple(records)) for name, records in groups.items())


def _by_framework(run: Run) -> tuple[Group, ...]:
    """Groups a run by operation, framework and, of several, device.

    A device on which nothing was tested has one group: it is not to bury what was.
    """
    declared = declarations(run)
    devices = {record.device for record in run.records}
    tested = {record.device for record in run.records if record.status != "unsupported"}
    nothing = devices - tested if tested else set()

    def name_of(record: Record) -> str:
        if record.device in nothing:
            return f"all@{record.device}"
        owner = declared.get((record.operation, record.implementation))
        framework = owner.framework if owner is not None else "outside"
        return f"{record.operation} {framework}" + (f"@{record.device}" if len(devices) > 1 else "")

    groups = grouped(run.records, name_of)
    return tuple(Group(name, tuple(groups[name])) for name in sorted(groups))


def _reasons(records: Sequence[Record]) -> tuple[Reason, ...]:
    aside = [record for record in records if record.status in {*ASIDE, "known"}]
    groups = grouped(aside, lambda record: (record.status, record.reason))
    reasons = [
        Reason(status, words, Counter(record.implementation for record in group))
        for (status, words), group in groups.items()
    ]
    return tuple(sorted(reasons, key=lambda reason: -reason.count))
