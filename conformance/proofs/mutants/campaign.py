"""All mutants of some implementations, measured side by side, and written as each is done."""

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
from conformance.core.verdict import Verdict
from conformance.proofs.mutants.generation import Mutant, mutants
from conformance.proofs.mutants.ledger import Ledger, Measured
from conformance.proofs.mutants.measuring import DEVICE, RANDOM, draw, measure, right_cases
from conformance.run.examiner import Examiner
from conformance.run.goldens import Goldens, OnTheFly, load
from conformance.run.known import Known, entry_for
from conformance.subjects import all_cases

# A mutant that waits for ever costs this much: ranks answer in milliseconds, JAX compiles first.
_TIMEOUTS = {"torch": 5.0, "jax": 30.0, "numpy": 5.0}


@dataclass
class Campaign:
    """What is being measured: the worlds of each thread, and what was written so far.

    Attributes:
        folder: the report folder.
        random: how many drawn cases to ask of a mutant that the suite does not see.
        known: differences of the implementations themselves.
        on_measured: called with each.
    """

    folder: Path
    random: int = RANDOM
    known: Sequence[Known] = ()
    on_measured: Callable[[Measured], None] = lambda _: None
    _examiners: list[Examiner] = field(default_factory=list)
    _here: threading.local = field(default_factory=threading.local)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Verify the goldens; read what an earlier campaign with them wrote."""
        self._goldens = load(all_cases())
        self._answers = _Answers(self._goldens)
        self._asked = [c for c in all_cases() if c.kind != "behaviour"]
        self._drawn = lru_cache(maxsize=None)(self._draw)
        self._ledger = Ledger(self.folder, self._goldens.by_operation)

    def run(
        self, implementations: Sequence[Implementation], jobs: int = 2, sample: int | None = None
    ) -> tuple[list[Measured], bool]:
        """Measure the mutants of these, and say whether Ctrl-C did not end it.

        Args:
            implementations: whose mutants.
            jobs: how many implementations at the same time.
            sample: only so many mutants of each, spread over its source.
        """
        found: dict[Implementation, list[Measured]] = {one: [] for one in implementations}
        with ThreadPoolExecutor(jobs) as pool:
            futures = [
                pool.submit(self._measure, one, _spread(mutants(one), sample), found[one])
                for one in implementations
            ]
            try:
                for future in as_completed(futures):
                    future.result()
            except KeyboardInterrupt:
                self._stop.set()
            except BaseException:
                self._stop.set()  # the others go on for a mutant's length otherwise
                raise
            finally:
                pool.shutdown(cancel_futures=True)
                for examiner in self._examiners:
                    examiner.close()
        is_whole = not self._stop.is_set()
        return [measured for one in implementations for measured in found[one]], is_whole

    def _measure(
        self, one: Implementation, chosen: Sequence[Mutant], found: list[Measured]
    ) -> None:
        right: list[AnyCase] = []
        with tempfile.TemporaryDirectory(prefix="conformance-mutants-") as temporary:
            for number, mutant in enumerate(chosen):
                outcome = self._ledger.outcome(mutant)
                if outcome is None:
                    right = right or right_cases(one, self._cases_of(one), self._examine)
                    changed = mutant.written(Path(temporary), number)
                    outcome = measure(changed, right, lambda: self._drawn_for(one), self._examine)
                    self._ledger.add(mutant, outcome)
                found.append(Measured(mutant.id, mutant.kind, outcome))
                self.on_measured(found[-1])

    def _cases_of(self, one: Implementation) -> list[AnyCase]:
        """The suite's cases, without those in which it is known to differ."""
        return [case for case in self._asked if not self._is_known(one, case)]

    def _drawn_for(self, one: Implementation) -> list[AnyCase]:
        drawn = self._drawn(one.operation, one.promise, one.framework)
        return [case for case in drawn if not self._is_known(one, case)]

    def _is_known(self, one: Implementation, case: AnyCase) -> bool:
        return entry_for(f"{one.id}@{DEVICE}:{case.name}", self.known) is not None

    def _examine(self, check: Check) -> Verdict:
        if self._stop.is_set():
            raise _Stopped
        return self._examiner(check.implementation.framework).examine(check)[0]

    def _examiner(self, framework: str) -> Examiner:
        """This thread's own."""
        if not hasattr(self._here, framework):
            examiner = Examiner(self._answers, (), _TIMEOUTS[framework])
            self._examiners.append(examiner)
            setattr(self._here, framework, examiner)
        mine: Examiner = getattr(self._here, framework)
        return mine

    def _draw(self, operation: str, promise: str, framework: str) -> list[AnyCase]:
        return draw(operation, promise, framework, self.random)


class _Stopped(Exception):  # noqa: N818 - no error
    """The campaign is over."""


class _Answers:
    """The stored goldens, and others made when they are asked for."""

    def __init__(self, stored: Goldens) -> None:
        self._stored, self._others = stored, OnTheFly()

    def of(self, case: AnyCase) -> Golden:
        """The golden of a case."""
        return self._stored.by_case.get(case.id) or self._others.of(case)


def _spread(everything: Sequence[Mutant], sample: int | None) -> Sequence[Mutant]:
    if sample is None or sample >= len(everything):
        return everything
    return [everything[i * len(everything) // sample] for i in range(sample)]
