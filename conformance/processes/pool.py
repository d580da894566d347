"""A world of processes: starts when first needed, and starts again after anything abnormal."""

import pickle
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from conformance.core.outcomes import Declined, Fate, Raised
from conformance.processes.crew import Crew
from conformance.processes.fork_client import NurseryDiedError, nursery_for
from conformance.processes.fork_request import Birth, environment_for
from conformance.processes.root_cause import verdict_rank
from conformance.processes.task import Task

# Seconds for imports, joining and preparing, on a slow and busy machine.
_START_LIMIT = 300.0
NOTHING: Mapping[str, str] = MappingProxyType({})


class Pool:
    """What the worlds have in common; they differ in how their ranks find each other."""

    size: int
    station = "conformance.processes.rendezvous:Alone"

    def __init__(
        self,
        size: int,
        preload: Sequence[str],
        prepare: str | None = None,
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        """Start nothing yet.

        Args:
            size: how many ranks there are.
            preload: modules that every rank finds imported.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in the ranks.
        """
        self.size = size
        self._preload, self._prepare = tuple(preload), prepare
        self._overrides = dict(environment)
        self._crew: Crew | None = None
        self._is_closed = False
        self._running = threading.Lock()

    def run(self, task: Task, timeout: float) -> list[Any]:
        """What each rank gave, in order; see `World`."""
        if reason := self._refusal(task):
            return [Declined("unsupported", reason)] * task.ranks
        # Pickled before anything starts: what does not pickle is the caller's mistake, and raises.
        payload = pickle.dumps(task.payload, protocol=5)
        message = pickle.dumps((task.function, task.ranks, payload), protocol=5)
        with self._running:
            try:
                failure = self._start(task)
                if failure is None and not self._is_closed:
                    assert self._crew is not None
                    outcomes = self._crew.ask(message, task.ranks, timeout)
                else:
                    outcomes = [failure] * task.ranks
            except NurseryDiedError as died:
                self._dismiss()
                outcomes = [Fate("crash", str(died))] * task.ranks
            except BaseException:  # Ctrl-C: the ranks are still at it
                self._dismiss()
                raise
            if self._is_closed or not (self._crew and self._crew.is_sound):
                self._dismiss()
            return [self._unless_closed(outcome) for outcome in outcomes]

    def close(self) -> None:
        """End every process; a task that another thread waits for comes back as a crash."""
        self._is_closed = True
        if (crew := self._crew) is not None:
            crew.end()
        # The thread that waits sees them end and lets go. If it is still starting them, it will
        # find the world closed when it has.
        if self._running.acquire(timeout=1.0):
            self._dismiss()
            self._running.release()

    def _refusal(self, task: Task) -> str:
        """Why a task cannot be run here; empty if it can."""
        if 1 <= task.ranks <= self.size:
            return ""
        return f"{task.ranks} ranks were asked of a world of {self.size}"

    def _place(self, index: int) -> Any:
        """What the station of a rank needs to know."""
        del index

    def _gather(self) -> None:
        """Make what the ranks of a new crew need to find each other."""

    def _scatter(self) -> None:
        """Remove what `_gather` made."""

    def _fits(self, task: Task) -> bool:
        """Whether the crew that is there can run this task; if not, a new one is gathered."""
        del task
        return True

    def _unless_closed(self, outcome: Any) -> Any:
        """An outcome; but what ended because the world was closed says that."""
        if self._is_closed and isinstance(outcome, Fate | None):
            return Fate("crash", "the world was closed")
        return outcome

    def _start(self, task: Task) -> Any:
        """Have a sound crew for a task; if it cannot be had, why."""
        if not self._fits(task) or (self._crew is not None and not self._crew.all_live()):
            self._dismiss()
        if self._is_closed or self._crew is not None:
            return None
        environment = environment_for(self._overrides)
        nursery = nursery_for(self._preload, self._overrides, environment)
        self._gather()
        births = [
            Birth(index, self.station, self._place(index), self._prepare, environment)
            for index in range(self.size)
        ]
        self._crew = Crew(births, nursery)
        arrivals = self._crew.arrive(_START_LIMIT)
        if not any(arrivals):
            return None
        self._dismiss()
        return _failed_start(arrivals[verdict_rank(arrivals)])

    def _dismiss(self) -> None:
        if self._crew is not None:
            self._crew.end()
            self._crew.close()
            self._crew = None
        self._scatter()


def _failed_start(decisive: Any) -> Any:
    said = "the world did not start: "
    match decisive:
        case Fate():
            return replace(decisive, reason=said + decisive.reason)
        case Raised():
            return replace(decisive, message=said + decisive.message)
    return decisive
