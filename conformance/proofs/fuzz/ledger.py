"""The findings of fuzzing, each written at once, so that a killed run loses nothing."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conformance.core.checks import Check
from conformance.core.outside_words import kept
from conformance.core.report_folder import Lines, ReportFolder
from conformance.core.verdict import Verdict
from conformance.run.case_files import written
from conformance.run.results import now

FILE, CASES = "fuzz.jsonl", "fuzz"


@dataclass(frozen=True)
class Failure:
    """A drawn case that an implementation does not conform to.

    Attributes:
        check: the check that failed.
        verdict: its verdict.
        is_minimal: whether the case was shrunk until nothing simpler fails in the same way.
        note: a further remark, which may be empty.
    """

    check: Check
    verdict: Verdict
    is_minimal: bool = False
    note: str = ""


@dataclass
class Ledger:
    """Writes DIR/fuzz.jsonl line by line, and every failing case into DIR/fuzz/ as JSON."""

    folder: ReportFolder
    header: Mapping[str, Any]
    failures: list[Failure] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        try:
            (self.folder.path / CASES).mkdir(exist_ok=True)
        except OSError as error:
            self.folder.fail(CASES, error)
        self._lines = Lines(self.folder, FILE)
        self._lines.begin({"kind": "header", **self.header})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.end()

    @property
    def asked(self) -> int:
        """Returns how many checks were asked, without those of the shrinker."""
        return sum(map(Counter.total, self.counts.values()))

    def count(self, check: Check, status: str) -> None:
        """Counts a check by its status."""
        owner = f"{check.implementation.id}@{check.device}"
        self.counts.setdefault(owner, Counter())[status] += 1

    def add(self, failure: Failure) -> None:
        """Writes a failure, and its case as a file of its own."""
        check, verdict = failure.check, failure.verdict
        self.failures.append(failure)
        self._lines.add(
            {
                "kind": "failure",
                "id": check.id,
                "status": verdict.status,
                "reason": kept(verdict.reason),
                "mistake": verdict.mistake,
                "fits": verdict.fits,
                "minimal": failure.is_minimal,
                "note": failure.note,
                "case": json.loads(written(check.case)),
            }
        )
        self.folder.write(f"{CASES}/{check.case.name}.json", written(check.case) + "\n")

    def file_of(self, failure: Failure) -> Path:
        """Returns the file of the failure's case."""
        return self.folder.path / CASES / f"{failure.check.case.name}.json"

    def finish(self, *, is_whole: bool) -> None:
        """Writes how many checks were asked, and the counts of their statuses."""
        total: Counter[str] = sum(self.counts.values(), Counter())
        self._lines.add(
            {
                "kind": "footer",
                "finished": now(),
                "asked": self.asked,
                "counts": dict(total),
                "whole": is_whole,
                "conforms": is_whole and not self.failures,
            }
        )
