"""The results file: one JSON object a line, written as each check ends, and read with suspicion."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conformance.core.checks import Check
from conformance.core.implementations import own
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import Seconds, checked, parse_json, read_text
from conformance.core.outside_words import each_text, kept, one_line
from conformance.core.report_folder import RESULTS, Lines, ReportFolder
from conformance.core.verdict import ASIDE, NOT_CONFORMING, STATUSES, Status, Verdict
from conformance.run.results_form import EvidenceForm, Footer, Header

FILE = RESULTS
# Raised where a reader of this number would misunderstand; a field more is no other format.
FORMAT = 1


@dataclass(frozen=True)
class Record:
    """One check of a results file.

    `evidence` is `Evidence.as_object()` of its verdict, empty where nothing was read off; `run` is
    the name of the run that it comes from, in a file that holds several (`Run.runs`); `more` holds
    the fields that this version does not know, and hands on.
    """

    id: str
    operation: str
    implementation: str
    device: str
    case: str
    clauses: tuple[str, ...]
    status: Status
    reason: str
    mistake: str | None
    error_over_bound: float | None
    seconds: Seconds
    answer: str | None = None
    promise: str = ""
    fits: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """`operation/implementation@device`."""
        return f"{self.operation}/{self.implementation}@{self.device}"

    @property
    def conforms(self) -> bool:
        """Whether this check says nothing against conformance."""
        return self.status not in NOT_CONFORMING

    @property
    def is_tested(self) -> bool:
        """Whether the implementation was asked: only then can a check speak for it."""
        return self.status not in ASIDE

    def as_object(self) -> dict[str, Any]:
        """Returns what stands on its line: `evidence` and `run` only where they say something."""
        known = {name: value for name, value in vars(self).items() if name != "more"}
        for name in ("evidence", "run"):
            if not known[name]:
                del known[name]
        return {**known, **self.more}


@dataclass(frozen=True)
class Run:
    """A results file: `footer` is None where the run was cut short.

    A merge of several runs has `runs` in its header: what each is called, and what it was made on.
    """

    header: Mapping[str, Any]
    records: tuple[Record, ...]
    footer: Mapping[str, Any] | None = None

    @property
    def conforms(self) -> bool:
        """Whether it is complete, some check got an answer, and every check conforms."""
        return self.footer is not None and conform(self.records) and not self.untested

    @property
    def untested(self) -> tuple[str, ...]:
        """What no check got an answer of, though the run is about it: adapters' code, or all."""
        outside = [r for r in self.records if r.owner.partition("@")[0] not in _own_ids()]
        if self._adapters and outside and not any(record.is_tested for record in outside):
            return tuple(dict.fromkeys(record.owner for record in outside))
        return () if any(record.is_tested for record in self.records) else ("the run",)

    @property
    def _adapters(self) -> Sequence[str]:
        environment: Mapping[str, Any] = self.header.get("environment") or {}
        adapters: Sequence[str] = environment.get("adapters", ())
        return adapters

    @property
    def quick(self) -> tuple[int, int] | None:
        """How many of how many cases a quick run has an answer to; None where it was none."""
        if not (counts := self.header.get("quick")):
            return None
        answered = {(record.operation, record.case) for record in self.records if record.is_tested}
        return len(answered), int(counts["of"])

    @property
    def last_failed(self) -> tuple[int, int] | None:
        """How many of how many checks were asked again; None where it is no part of another run."""
        entry = self.header.get("last_failed")
        return (len(self.records), int(entry["of"])) if entry else None

    @property
    def runs(self) -> Sequence[Mapping[str, Any]]:
        """The runs that were merged into this one; none in the file that a run wrote."""
        merged: Sequence[Mapping[str, Any]] = self.header.get("runs", ())
        return merged

    @property
    def counts(self) -> dict[str, int]:
        """How many checks came to each status, in the order of the statuses."""
        found = Counter(record.status for record in self.records)
        return {status: found[status] for status in STATUSES if found[status]}

    def rerun(self, check_id: str) -> str:
        """The one line that runs just this check again, quoted for a shell."""
        words = ["conformance", "run", check_id]
        for adapter in self._adapters:
            words += ["--adapter", str(adapter)]
        case = self.header.get("cases", {}).get(check_id.partition("@")[2].rpartition(":")[2])
        return shlex.join([*words, *(("--case", case) if case else ())])


def record_of(check: Check, verdict: Verdict, seconds: float) -> Record:
    """What a results file says of a check."""
    return Record(
        id=check.id,
        operation=check.implementation.operation,
        implementation=check.implementation.name,
        device=check.device,
        case=check.case.name,
        clauses=check.case.clauses,
        status=verdict.status,
        reason=kept(verdict.reason),
        mistake=verdict.mistake,
        error_over_bound=_finite(verdict.error_over_bound),
        seconds=round(seconds, 6),
        answer=verdict.answer,
        promise=check.implementation.held_to,
        fits=verdict.fits,
        evidence=each_text(verdict.evidence.as_object(), kept),
    )


def _finite(number: float | None) -> float | None:
    """Returns the number, or None for infinity and NaN, which JSON does not have."""
    return number if number is not None and math.isfinite(number) else None


def conform(records: Iterable[Record]) -> bool:
    """Says whether some check got an answer, and none speaks against conformance."""
    tested = False
    for record in records:
        if not record.conforms:
            return False
        tested = tested or record.is_tested
    return tested


@cache
def _own_ids() -> frozenset[str]:
    return frozenset(declared.id for declared in own())


def now() -> str:
    """This moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Writer:
    """Writes a run line by line; what is written stays, whatever happens next."""

    folder: ReportFolder
    header: Mapping[str, Any]
    records: list[Record] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Removes the reports of an older run, and writes the header."""
        self.folder.clear()
        self._lines = Lines(self.folder)
        self.start(self.header)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.end()
        if isinstance(error, UsageError):
            # A call that was wrong is no run that was cut short.
            self.folder.clear()

    def start(self, header: Mapping[str, Any]) -> None:
        """Begins the file anew with this header."""
        self.header = header
        self._lines.begin({"kind": "header", **header})

    def add(self, record: Record) -> None:
        """Append one check."""
        self._lines.add({"kind": "check", **record.as_object()})
        self.records.append(record)

    def cut_short(self) -> Run:
        """Returns the run as far as it came."""
        return Run(self.header, tuple(self.records))

    def finish(self) -> Run:
        """Append the footer: the run is complete."""
        run = self.cut_short()
        footer = {
            "kind": "footer",
            "finished": now(),
            "counts": run.counts,
            "conforms": conform(self.records) and not run.untested,
        }
        self._lines.add(footer)
        return Run(self.header, run.records, footer)


def read(path: Path) -> Run:
    """A results file, whole or cut short (a last line that was not finished is left out).

    Fields that are not known are kept in `Record.more`.

    Raises:
        UsageError: if there is no such file, it is none of ours, a newer version of the suite
            wrote it in another format, or it is damaged.
    """
    file = path / FILE if path.is_dir() else path
    (_, header), *rest = _objects(file)
    if header.get("format", FORMAT) != FORMAT:
        raise UsageError(
            f"results {file}: is in format {header['format']!r:.80}, of another version of the "
            f"suite ({header.get('suite')!r:.80}); this version reads format {FORMAT}"
        )
    checked(header, Header, f"results {file}:1")
    last = rest.pop() if rest and rest[-1][1].get("kind") == "footer" else None
    records = tuple(_record(content, f"results {file}:{number}") for number, content in rest)
    footer = None
    if last is not None:
        checked(last[1], Footer, f"results {file}:{last[0]}")
        footer = last[1]
    run = Run(header, records, footer)
    if footer is not None and footer.get("counts") != run.counts:
        raise UsageError(
            f"results {file}: the footer counts {footer.get('counts')}, its lines are {run.counts}"
        )
    if run.runs:
        _check_runs(run, file)
    elif footer is not None:
        _check_whole(run, file)
    return run


def digest_of(ids: Iterable[str]) -> str:
    """Returns what shards of one run have in common: SHA-256 of the ids of all their checks."""
    return sha256("\n".join(sorted(ids)).encode("utf-8", "backslashreplace")).hexdigest()


def _check_whole(run: Run, file: Path) -> None:
    """Believes a footer only where the checks are those of the plan, each once.

    Raises:
        UsageError: naming a check that is there twice, or how many are missing.
    """
    counts = Counter((record.run, record.id) for record in run.records)
    doubled = next((check for (_, check), count in counts.items() if count > 1), None)
    if doubled is not None:
        raise UsageError(f"results {file}: {one_line(doubled, 300)} is there twice")
    planned = run.header.get("checks")
    if isinstance(planned, int) and planned != len(run.records):
        raise UsageError(
            f"results {file}: the header plans {planned} checks, {len(run.records)} are there"
        )
    plan = run.header.get("plan")
    is_other = plan is not None and plan != digest_of(record.id for record in run.records)
    if run.header.get("shard") is None and is_other:
        raise UsageError(f"results {file}: the checks are not those that the header plans")


def _check_runs(run: Run, file: Path) -> None:
    """Requires that every check of a merge is of one of its runs: none may go unseen.

    Raises:
        UsageError: naming a run that is there twice, or a check of no run.
    """
    names = Counter(part["name"] for part in run.runs)
    doubled = next((name for name, count in names.items() if count > 1), None)
    if doubled is not None:
        raise UsageError(f"results {file}: the run {one_line(doubled, 300)} is there twice")
    stray = next((record for record in run.records if record.run not in names), None)
    if stray is not None:
        raise UsageError(
            f"results {file}: {one_line(stray.id, 300)} is of no run that the header has"
        )


def _objects(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """Returns the objects of a file with the numbers of their lines, the header first."""
    # Not splitlines(), for which more than a line feed ends a line.
    lines = read_text(file, f"results {file}").split("\n")
    objects: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(lines, start=1):
        place = f"results {file}:{number}"
        try:
            content = parse_json(line, place)
        except UsageError:
            if number < len(lines):
                raise
            break  # A line that was not finished, or nothing behind the last line feed.
        if not isinstance(content, dict):
            raise UsageError(f"{place}: is no JSON object")
        objects.append((number, content))
    if not objects or objects[0][1].get("kind") != "header":
        what = "is empty" if lines == [""] else "the first line is no header of a conformance run"
        raise UsageError(f"results {file}: {what}")
    return objects


_FIELDS = frozenset(one.name for one in fields(Record)) - {"more"}


def _record(content: Mapping[str, Any], place: str) -> Record:
    if content.get("kind") != "check":
        raise UsageError(f"{place}: is neither a check nor the footer")
    known = {name: value for name, value in content.items() if name in _FIELDS}
    more = {k: v for k, v in content.items() if k not in _FIELDS and k != "kind"}
    checked(known.get("evidence", {}), EvidenceForm, f"{place}: evidence")
    # A copy has every field as an attribute of its own, defaults too.
    return replace(checked(known, Record, place), more=more)
