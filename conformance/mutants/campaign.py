"""All mutants of some implementations, measured side by side, and written as each is done."""

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

from conformance.cases import AnyCase, all_cases
from conformance.cases.case import BehaviourQuestion
from conformance.examiner import Examiner
from conformance.fuzz import OnTheFly
from conformance.judge import Known
from conformance.judge.known import entry_for
from conformance.mutants.generation import Mutant, mutants
from conformance.mutants.measuring import DEVICE, RANDOM, Outcome, draw, measure, right_cases
from conformance.registry import Implementation
from conformance.results import writable
from conformance.store import Golden, Goldens, load

FILE = "mutants.jsonl"
# A mutant that waits for ever costs this much: ranks answer in milliseconds, JAX compiles first.
_TIMEOUTS = {"torch": 5.0, "jax": 30.0, "numpy": 5.0}


@dataclass(frozen=True)
class Measured:
    """A mutant and what became of it."""

    id: str
    operation: str
    implementation: str
    kind: str
    outcome: Outcome


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
        self._asked = [c for c in all_cases() if not isinstance(c.question, BehaviourQuestion)]
        self._drawn = lru_cache(maxsize=None)(self._draw)
        self._file = writable(self.folder) / FILE
        self._done = dict(self._read())
        self._writing = threading.Lock()

    def run(
        self, implementations: Sequence[Implementation], jobs: int = 2, sample: int | None = None
    ) -> list[Measured]:
        """Measure the mutants of these; Ctrl-C ends it, and what was measured is on disk.

        Args:
            implementations: whose mutants.
            jobs: how many implementations at the same time.
            sample: only so many mutants of each, spread over its source.
        """
        found: dict[Implementation, list[Measured]] = {}
        try:
            with ThreadPoolExecutor(jobs) as pool:
                futures = {
                    pool.submit(self._measure, one, _spread(mutants(one), sample)): one
                    for one in implementations
                }
                try:
                    for future in as_completed(futures):
                        found[futures[future]] = future.result()
                except BaseException:
                    self._stop.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        finally:
            for examiner in self._examiners:
                examiner.close()
        return [measured for one in implementations for measured in found[one]]

    def _measure(self, one: Implementation, chosen: Sequence[Mutant]) -> list[Measured]:
        examiner = self._examiner(one.framework)
        right: list[AnyCase] = []
        found = []
        with tempfile.TemporaryDirectory(prefix="conformance-mutants-") as temporary:
            for number, mutant in enumerate(chosen):
                if self._stop.is_set():
                    break
                outcome = self._done.get(mutant.digest)
                if outcome is None:
                    right = right or right_cases(one, self._cases_of(one), examiner)
                    changed = mutant.written(Path(temporary), number)
                    outcome = measure(changed, right, self._drawn, examiner)
                    self._write(mutant, outcome)
                found.append(_measured(mutant, outcome))
                self.on_measured(found[-1])
        return found

    def _cases_of(self, one: Implementation) -> list[AnyCase]:
        """The suite's cases, without those in which it is known to differ."""
        return [
            case
            for case in self._asked
            if entry_for(f"{one.id}@{DEVICE}:{case.name}", self.known) is None
        ]

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

    def _write(self, mutant: Mutant, outcome: Outcome) -> None:
        line = {
            "suite": self._goldens.sha256,
            "mutant": mutant.digest,
            "id": mutant.id,
            "kind": mutant.kind,
            **asdict(outcome),
        }
        with self._writing, self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _read(self) -> Iterator[tuple[str, Outcome]]:
        if not self._file.is_file():
            return
        for line in self._file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.pop("suite") == self._goldens.sha256:
                digest = entry.pop("mutant")
                del entry["id"], entry["kind"]
                yield digest, Outcome(**entry)


class _Answers:
    """The stored goldens, and others made when they are asked for."""

    def __init__(self, stored: Goldens) -> None:
        self._stored, self._others = stored, OnTheFly()

    def of(self, case: AnyCase) -> Golden:
        """The golden of a case."""
        return self._stored.by_case.get(case.id) or self._others.of(case)


def _measured(mutant: Mutant, outcome: Outcome) -> Measured:
    one = mutant.implementation
    return Measured(mutant.id, one.operation, one.name, mutant.kind, outcome)


def _spread(everything: Sequence[Mutant], sample: int | None) -> Sequence[Mutant]:
    if sample is None or sample >= len(everything):
        return everything
    return [everything[i * len(everything) // sample] for i in range(sample)]
