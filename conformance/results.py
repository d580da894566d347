"""The results file: one JSON object a line, written as each check ends, and read with suspicion."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conformance.checks import Check
from conformance.errors import UsageError
from conformance.judge import NOT_CONFORMING, STATUSES, Verdict

FILE = "results.jsonl"


@dataclass(frozen=True)
class Record:
    """One check of a results file."""

    id: str
    operation: str
    implementation: str
    device: str
    case: str
    clauses: tuple[str, ...]
    status: str
    reason: str
    mistake: str | None
    error_over_bound: float | None
    seconds: float
    answer: str | None = None
    promise: str = ""
    fits: tuple[str, ...] = ()

    @property
    def owner(self) -> str:
        """`operation/implementation@device`."""
        return f"{self.operation}/{self.implementation}@{self.device}"

    @property
    def conforms(self) -> bool:
        """Whether this check counts for conformance."""
        return self.status not in NOT_CONFORMING


@dataclass(frozen=True)
class Run:
    """A results file: `footer` is None where the run was cut short."""

    header: Mapping[str, Any]
    records: tuple[Record, ...]
    footer: Mapping[str, Any] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many checks came to each status, in the order of the statuses."""
        found = Counter(record.status for record in self.records)
        return {status: found[status] for status in STATUSES if found[status]}

    def rerun(self, check_id: str) -> str:
        """The one line that runs just this check again."""
        adapters = self.header.get("environment", {}).get("adapters", [])
        return " ".join(["conformance run", check_id, *(f"--adapter {a}" for a in adapters)])


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
        reason=verdict.reason,
        mistake=verdict.mistake,
        error_over_bound=verdict.error_over_bound,
        seconds=round(seconds, 6),
        answer=verdict.answer,
        promise=check.implementation.promise,
        fits=verdict.fits,
    )


def now() -> str:
    """This moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Writer:
    """Writes a run line by line; what is written stays, whatever happens next."""

    folder: Path
    header: Mapping[str, Any]
    records: list[Record] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stream = (self.folder / FILE).open("w", encoding="utf-8")
        self._line({"kind": "header", **self.header})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def add(self, record: Record) -> None:
        """Append one check."""
        self._line({"kind": "check", **vars(record)})
        self.records.append(record)

    def finish(self) -> Run:
        """Append the footer: the run is complete."""
        run = Run(self.header, tuple(self.records))
        footer = {
            "kind": "footer",
            "finished": now(),
            "counts": run.counts,
            "conforms": all(record.conforms for record in self.records),
        }
        self._line(footer)
        return Run(self.header, run.records, footer)

    def _line(self, content: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(content, ensure_ascii=False) + "\n")
        self._stream.flush()


def writable(folder: Path) -> Path:
    """The report folder, made where it was missing, and shown to be writable.

    Raises:
        UsageError: if it is not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).open("a", encoding="utf-8").close()
    except OSError as error:
        raise UsageError(
            f"report folder {folder}: cannot be written ({error.strerror}); "
            "choose another by --report"
        ) from error
    return folder


def read(path: Path) -> Run:
    """A results file, whole or cut short (a last line that was not finished is left out).

    Raises:
        UsageError: if there is no such file, or it is none of ours.
    """
    file = path / FILE if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"results {file}: cannot be read ({error})") from error
    objects = []
    for number, line in enumerate(lines, start=1):
        try:
            objects.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise UsageError(f"results {file}:{number}: is not JSON ({error})") from error
    if not objects or objects[0].get("kind") != "header":
        raise UsageError(f"results {file}: the first line is no header of a conformance run")
    header, *rest = objects
    footer = rest.pop() if rest and rest[-1].get("kind") == "footer" else None
    records = []
    for number, content in enumerate(rest, start=2):
        if content.pop("kind", None) != "check":
            raise UsageError(f"results {file}:{number}: is neither a check nor the footer")
        for several in ("clauses", "fits"):
            content[several] = tuple(content.get(several, ()))
        records.append(Record(**content))
    return Run(header, tuple(records), footer)
