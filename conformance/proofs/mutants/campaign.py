"""A campaign: measures all mutants of some implementations, and writes each result at once."""

import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from conformance.core.checks import Check
from conformance.core.golden import Golden
from conformance.core.implementations import Implementation
from conformance.core.questions import AnyCase
from conformance.core.report_folder import ReportFolder
from conformance.core.verdict import Verdict
from conformance.proofs.mutants.generation import Mutant, mutants, put_beside, unchanged
from conformance.proofs.mutants.ledger import Ledger, Measured
from conformance.proofs.mutants.measuring import DEVICE, RANDOM, draw, measure, right_cases
from conformance.run.examiner import Examiner
from conformance.run.goldens import Goldens, OnTheFly, installed
from conformance.run.known import Known
from conformance.subjects import all_cases

# A mutant that hangs costs so many seconds: ranks answer in milliseconds, JAX compiles first.
_TIMEOUTS = {"torch": 5.0, "jax": 30.0, "numpy": 5.0}


@dataclass
class Campaign:
    """A campaign with the worlds of each thread, and the outcomes so far.

    Attributes:
        folder: the report folder.
        random: how many drawn cases to ask of a mutant that the suite does not see.
        known: differences of the implementations themselves.
        on_measured: called with each measured mutant.
    """

    folder: ReportFolder
    random: int = RANDOM
    known: Sequence[Known] = ()
    on_measured: Callable[[Measured], None] = lambda _: None
    _examiners: list[Examiner] = field(default_factory=list)
    _here: threading.local = field(default_factory=threading.local)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Verifies the goldens, and reads what an earlier campaign with the same goldens wrote."""
        self._goldens = installed()
        self._answers = _Answers(self._goldens)
        self._asked = [c for c in all_cases() if c.kind != "behaviour"]
        self._drawn = lru_cache(maxsize=None)(self._draw)
        self._ledger = Ledger(self.folder, self._goldens.by_operation)

    def run(
        self, implementations: Sequence[Implementation], jobs: int = 2, sample: int | None = None
    ) -> tuple[list[Measured], bool]:
        """Measures mutants; returns them, and whether the campaign is whole.

        Args:
            implementations: the implementations to change.
            jobs: how many implementations at the same time.
            sample: only so many mutants of each, spread over its source.

        Raises:
            UsageError: if an implementation cannot be changed, or does not conform as it is.
        """
        chosen = {declared: _spread(mutants(declared), sample) for declared in implementations}
        measured_of: dict[Implementation, list[Measured]] = {
            implementation: [] for implementation in implementations
        }
        with ThreadPoolExecutor(jobs) as pool:
            futures = [
                pool.submit(
                    self._measure,
                    implementation,
                    chosen[implementation],
                    measured_of[implementation],
                )
                for implementation in implementations
            ]
            try:
                for future in as_completed(futures):
                    future.result()
            except KeyboardInterrupt:
                self._stop.set()
            except BaseException:
                # The other threads would otherwise go on until their mutant ends.
                self._stop.set()
                raise
            finally:
                pool.shutdown(cancel_futures=True)
                for examiner in self._examiners:
                    examiner.close()
        is_whole = not self._stop.is_set()
        return [
            measured
            for implementation in implementations
            for measured in measured_of[implementation]
        ], is_whole

    def _measure(
        self, implementation: Implementation, chosen: Sequence[Mutant], results: list[Measured]
    ) -> None:
        right: list[AnyCase] = []
        with tempfile.TemporaryDirectory(prefix="conformance-mutants-") as temporary:
            put_beside(implementation, Path(temporary))
            for number, mutant in enumerate(chosen):
                outcome = self._ledger.outcome(mutant)
                if outcome is None:
                    right = right or right_cases(
                        unchanged(implementation).written(Path(temporary), len(chosen)),
                        self._cases_of(implementation),
                        self._examine,
                    )
                    changed = mutant.written(Path(temporary), number)
                    outcome = measure(
                        changed, right, lambda: self._drawn_for(implementation), self._examine
                    )
                    self._ledger.add(mutant, outcome)
                results.append(Measured(mutant.id, mutant.kind, outcome))
                self.on_measured(results[-1])

    def _cases_of(self, implementation: Implementation) -> list[AnyCase]:
        """Returns the suite's cases, without cases in which an implementation differs on record."""
        return [case for case in self._asked if not self._is_known(implementation, case)]

    def _drawn_for(self, implementation: Implementation) -> list[AnyCase]:
        drawn = self._drawn(
            implementation.operation, implementation.held_to, implementation.framework
        )
        return [case for case in drawn if not self._is_known(implementation, case)]

    def _is_known(self, implementation: Implementation, case: AnyCase) -> bool:
        check = Check(implementation, case, DEVICE)
        return any(entry.matches(check) for entry in self.known)

    def _examine(self, check: Check) -> Verdict:
        if self._stop.is_set():
            raise _Stopped
        return self._examiner(check.implementation.framework).examine(check)[0]

    def _examiner(self, framework: str) -> Examiner:
        """Returns this thread's own examiner."""
        if not hasattr(self._here, framework):
            examiner = Examiner(self._answers, (), _TIMEOUTS[framework])
            self._examiners.append(examiner)
            setattr(self._here, framework, examiner)
        own: Examiner = getattr(self._here, framework)
        return own

    def _draw(self, operation: str, promise: str, framework: str) -> list[AnyCase]:
        return draw(operation, promise, framework, self.random)


class _Stopped(Exception):  # noqa: N818 - This is no error.
    """The campaign is over."""


class _Answers:
    """The stored goldens, and other goldens, which are solved on demand."""

    def __init__(self, stored: Goldens) -> None:
        self._stored, self._others = stored, OnTheFly()

    def of(self, case: AnyCase) -> Golden:
        """Returns the golden of a case."""
        return self._stored.by_case.get(case.id) or self._others.of(case)


def _spread(all_mutants: Sequence[Mutant], sample: int | None) -> Sequence[Mutant]:
    if sample is None or sample >= len(all_mutants):
        return all_mutants
    return [all_mutants[i * len(all_mutants) // sample] for i in range(sample)]
