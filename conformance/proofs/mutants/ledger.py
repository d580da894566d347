"""The outcomes of mutants, each written at once as a line of JSON."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from conformance.core.outside_files import Count, checked, parse_json, read_text
from conformance.core.report_folder import ReportFolder
from conformance.proofs.mutants.generation import Mutant
from conformance.proofs.mutants.measuring import Fate, Outcome

FILE = "mutants.jsonl"


@dataclass(frozen=True)
class Measured:
    """A mutant and its outcome.

    Attributes:
        id: `operation/implementation:line: from → to`.
        kind: the kind of the change.
        outcome: the mutant's outcome.
    """

    id: str
    kind: str
    outcome: Outcome

    @property
    def operation(self) -> str:
        """Returns the operation of the mutant."""
        return _operation(self.id)


class Ledger:
    """The file of outcomes in a report folder, which later campaigns with the same goldens reuse.

    A mutant is identified by its source, so that an unchanged mutant is not measured again.
    """

    def __init__(self, folder: ReportFolder, suites: Mapping[str, str]) -> None:
        """Reads the file; `suites` has the SHA-256 of each operation's goldens.

        Raises:
            UsageError: if the file was written by something else.
        """
        self._folder, self._suites = folder, suites
        entries = _entries(folder.path / FILE) if (folder.path / FILE).is_file() else []
        self._lock = threading.Lock()
        self._known = {
            entry.mutant: entry.outcome
            for entry in entries
            if entry.suite == suites.get(_operation(entry.id))
        }

    def outcome(self, mutant: Mutant) -> Outcome | None:
        """Returns the outcome of a mutant that is in the file, or None."""
        return self._known.get(mutant.digest)

    def add(self, mutant: Mutant, outcome: Outcome) -> None:
        """Writes an outcome at once."""
        line = {
            "suite": self._suites[_operation(mutant.id)],
            "mutant": mutant.digest,
            "id": mutant.id,
            "kind": mutant.kind,
            **asdict(outcome),
        }
        with self._lock:
            self._folder.append(FILE, line)


def read(folder: Path) -> list[Measured]:
    """Reads the outcomes of each operation with the goldens that its last line names.

    Raises:
        UsageError: if there is no such file, or it was written by something else.
    """
    entries = _entries(folder / FILE)
    last = {_operation(entry.id): entry.suite for entry in entries}
    return [
        Measured(entry.id, entry.kind, entry.outcome)
        for entry in entries
        if entry.suite == last[_operation(entry.id)]
    ]


def _operation(mutant: str) -> str:
    return mutant.partition("/")[0]


class _Entry(msgspec.Struct):
    suite: str
    mutant: str
    id: str
    kind: str
    fate: Fate
    case: str
    status: str
    mistake: str
    asked: Count

    @property
    def outcome(self) -> Outcome:
        """Returns what became of the mutant."""
        return Outcome(self.fate, self.case, self.status, self.mistake, self.asked)


def _entries(file: Path) -> list[_Entry]:
    """Returns the entries of the file, without a last line that a killed process did not end."""
    *lines, _ = read_text(file, str(file)).split("\n")
    places = [f"{file}:{number}" for number in range(1, len(lines) + 1)]
    return [
        checked(parse_json(line, place), _Entry, place)
        for line, place in zip(lines, places, strict=True)
    ]


@dataclass(frozen=True)
class Score:
    """Counts of mutants by fate.

    >>> Score(made=10, stillborn=4, killed=3, equivalent=2, survived=1).share
    0.75
    """

    made: int
    stillborn: int
    killed: int
    equivalent: int
    survived: int

    @property
    def share(self) -> float:
        """Returns the share that the suite sees, of the mutants that answer and answer wrong."""
        return self.killed / (self.killed + self.survived or 1)


def score(measured: Iterable[Measured]) -> Score:
    """Counts the fates of mutants."""
    fates = Counter(mutant.outcome.fate for mutant in measured)
    return Score(
        fates.total(),
        fates["stillborn"],
        fates["killed"],
        fates["equivalent"],
        fates["survived"],
    )
