"""Two runs of the same checks, one before and one after: what changed, and what got worse."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from conformance.core.checks import number_of_checks
from conformance.core.outcomes import UsageError
from conformance.core.verdict import ASIDE
from conformance.report.comparison import kind_of, wanting
from conformance.report.merging import merge
from conformance.report.printable import printable
from conformance.run.results import Record, Run

# What happened to a check, in the order in which it is printed, and in the words of a heading.
Kind = Literal[
    "worse", "better", "other verdict", "no longer asked", "newly asked", "gone", "new",
    "other answers", "within bound", "same bits", "not asked",
]  # fmt: skip
HEADINGS: dict[Kind, str] = {
    "worse": "conformed before and do not now",
    "better": "did not conform before and do now",
    "other verdict": "changed verdict otherwise",
    "no longer asked": "were asked before and are not now",
    "newly asked": "were not asked before and are now",
    "gone": "are in the first file alone",
    "new": "are in the second file alone",
    "other answers": "have the same verdict, on other answers",
    "within bound": "are within bound in both, and differ",
    "same bits": "agree bit for bit, promised errors included",
    "not asked": "are asked in neither",
}
QUIET: frozenset[Kind] = frozenset({"same bits", "not asked"})
# One run alone has an answer, or neither.
_NOT_COMPARED: frozenset[Kind] = frozenset(
    {"gone", "new", "no longer asked", "newly asked", "not asked"}
)
SHOWN = 20  # Checks under a heading, unless all are wanted.


@dataclass(frozen=True)
class Change:
    """One check before and after; None where that run does not have it."""

    check: str
    before: Record | None
    after: Record | None

    @property
    def kind(self) -> Kind:
        """What happened to the check."""
        match self.before, self.after:
            case Record() as before, Record() as after:
                return _kind(before, after)
            case None, _:
                return "new"
            case _:
                return "gone"

    @property
    def words(self) -> str:
        """The check, its two statuses, and the reason where they differ."""
        both = (self.before, self.after)
        old, new = (record.status if record else "·" for record in both)
        became = old if old == new else f"{old} → {new}"
        if self.kind in ("other answers", "within bound"):
            hashes = [record.answer[:8] if record.answer else "none" for record in both if record]
            became += f", {' and '.join(hashes)}"
        last = self.after or self.before
        reason = f": {last.reason}" if last and last.reason and old != new else ""
        return f"{self.check}: {became}{reason}"


def _kind(before: Record, after: Record) -> Kind:
    if before.status in ASIDE or after.status in ASIDE:
        if before.status in ASIDE and after.status in ASIDE:
            return "not asked"
        if not after.conforms:
            return "worse"
        return "newly asked" if before.status in ASIDE else "no longer asked"
    if before.conforms != after.conforms:
        return "worse" if before.conforms else "better"
    kind = kind_of([before, after])
    return "other verdict" if kind == "verdicts" else kind if kind != "alone" else "same bits"


@dataclass(frozen=True)
class Changes:
    """What became of every check, and the two runs that say so."""

    before: Run
    after: Run
    checks: tuple[Change, ...]

    def of(self, kind: Kind) -> list[Change]:
        """Returns the checks to which this happened, those that fail now before the others."""
        changed = [change for change in self.checks if change.kind == kind]
        return sorted(changed, key=lambda change: change.after is None or change.after.conforms)

    @property
    def is_worse(self) -> bool:
        """Whether a check conformed before, or was not tested, and does not conform now."""
        return bool(self.of("worse"))

    @property
    def compared(self) -> int:
        """How many checks both runs have an answer to."""
        return sum(change.kind not in _NOT_COMPARED for change in self.checks)

    @property
    def is_whole(self) -> bool:
        """Whether both runs were complete."""
        return self.before.footer is not None and self.after.footer is not None


def changes(before: Path, after: Path) -> Changes:
    """Compares two results files; shards are to be merged first.

    Checks are the same if their ids are; where the two runs have no device in common, the device
    is left out of the comparison.

    Raises:
        UsageError: if a file cannot be read, holds several runs, or the two were made against
            different goldens.
    """
    runs = [printable(merge([path])) for path in (before, after)]
    for run, path in zip(runs, (before, after), strict=True):
        if len(run.runs) > 1:
            raise UsageError(f"{path} holds {len(run.runs)} runs; a diff is of one with one")
    first, second = runs
    if first.header["goldens"] != second.header["goldens"]:
        raise UsageError(
            f"{before} and {after} were made against different goldens: "
            "their answers cannot be compared"
        )
    devices = [{record.device for record in run.records} for run in runs]
    across = bool(devices[0] and devices[1]) and not devices[0] & devices[1]
    old, new = (_by_check(run, across=across) for run in runs)
    return Changes(
        first,
        second,
        tuple(Change(check, old.get(check), new.get(check)) for check in {**old, **new}),
    )


def _by_check(run: Run, *, across: bool) -> dict[str, Record]:
    return {
        f"{r.operation}/{r.implementation}:{r.case}" if across else r.id: r for r in run.records
    }


def lines(changed: Changes, *, everything: bool = False) -> Iterator[str]:
    """Yields the changes in words: the worst first, what agrees as a number."""
    for letter, run in zip("AB", (changed.before, changed.after), strict=True):
        [part] = run.runs
        yield ", ".join(
            [f"{letter}  {part['name']}: {number_of_checks(len(run.records))}", *wanting(part)]
        )
    for kind, words in HEADINGS.items():
        checks = changed.of(kind)
        if checks:
            yield f"{len(checks)} {words}"
        if kind not in QUIET:
            yield from _shown(checks, everything=everything or kind == "worse")
    yield _ending(changed)


def _shown(checks: Sequence[Change], *, everything: bool) -> Iterator[str]:
    shown = checks if everything else checks[:SHOWN]
    yield from (f"  {change.words}" for change in shown)
    if len(shown) < len(checks):
        yield f"  and {len(checks) - len(shown)} more; --all shows them"


def _ending(changes: Changes) -> str:
    worse = len(changes.of("worse"))
    if worse:
        return f"{worse} got worse"
    if not changes.compared:
        return "Nothing was compared: no check has an answer in both"
    if not changes.is_whole:
        return "Nothing got worse in what is here; a run that is not whole does not have all"
    differ = [change for change in changes.checks if change.kind not in QUIET]
    return f"Nothing got worse; {len(differ)} differ" if differ else "No difference"
