"""A world of processes: starts when first needed, and starts again after anything abnormal."""

import pickle
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from conformance.core.outcomes import Declined, Fate, Raised
from conformance.processes import wire
from conformance.processes.fork_client import ForkClient, ForkServerDiedError, fork_client_for
from conformance.processes.fork_request import ForkRequest, environment_for
from conformance.processes.rank_group import RankGroup
from conformance.processes.rank_handle import Expected
from conformance.processes.root_cause import verdict_rank
from conformance.processes.task import Rendezvous, SingleRank, Task, name_of

# Imports, joining and preparing may take this many seconds on a slow and busy machine.
_START_LIMIT = 300.0
_MEETINGS = 3  # Code under test beside them may remove the folder where ranks are about to meet.
NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})


class Pool:
    """What all worlds have in common; they differ in how their ranks find each other."""

    size: int
    rendezvous: type[Rendezvous] = SingleRank

    def __init__(
        self,
        size: int,
        preload: Sequence[str],
        prepare: str | None = None,
        environment: Mapping[str, str] = NO_OVERRIDES,
        *,
        late: Mapping[str, str] = NO_OVERRIDES,
        is_alone: bool = False,
    ) -> None:
        """Starts no process; the first `run` does.

        Args:
            size: how many ranks there are.
            preload: modules that every rank finds imported, in this order, each once.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in the ranks and in their fork server.
            late: environment variables to set in the ranks alone, which another world's fork
                server need not have.
            is_alone: whether the ranks are forked by a server of their own, since they run code
                from outside, which might harm their server.
        """
        self.size = size
        self._preload, self._prepare = tuple(dict.fromkeys(preload)), prepare
        self._overrides = dict(environment)
        self._late, self._is_alone = dict(late), is_alone
        self._own_client: ForkClient | None = None
        self._ranks: RankGroup | None = None
        self._is_closed = False
        self._running = threading.Lock()
        self._changes: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[str, ...]:
        """What the last task changed in its processes; see `World`."""
        return self._changes

    def run(self, task: Task, timeout: float) -> list[Any]:
        """Returns the value of each rank, in order; see `World`."""
        if reason := self._refusal(task):
            return [Declined("unsupported", reason)] * task.ranks
        # The payload is pickled before anything starts, since a payload that does not pickle is the
        # caller's mistake, and raises.
        payload = pickle.dumps(task.payload, protocol=5)
        token = secrets.token_bytes(wire.TOKEN_SIZE)
        expected = Expected(token, task.limit, task.kinds)
        parts = (token, task.function, task.ranks, task.limit, payload)
        message = pickle.dumps(parts, protocol=5)
        with self._running:
            self._changes = ()
            try:
                failure = self._start(task)
                if failure is None and not self._is_closed:
                    assert self._ranks is not None
                    outcomes = self._ranks.ask(message, task.ranks, expected, timeout)
                    self._changes = self._ranks.changes
                else:
                    outcomes = [failure] * task.ranks
            except ForkServerDiedError as error:
                self._stop()
                outcomes = [Fate("crash", str(error))] * task.ranks
            except BaseException:  # After Ctrl-C the ranks are still at work.
                self._stop()
                raise
            if self._is_closed or not (self._ranks and self._ranks.is_sound):
                self._stop()
            return [self._unless_closed(outcome) for outcome in outcomes]

    def close(self) -> None:
        """Ends every process; a task that another thread waits for comes back as a crash."""
        self._is_closed = True
        if (ranks := self._ranks) is not None:
            ranks.kill()
        # The waiting thread sees the ranks end and releases the lock. A thread that is still
        # starting them finds the world closed once they have started.
        if self._running.acquire(timeout=1.0):
            self._stop()
            self._end_own_client()
            self._running.release()

    def _refusal(self, task: Task) -> str:
        """Says why a task cannot be run here; empty if it can."""
        if 1 <= task.ranks <= self.size:
            return ""
        return f"{task.ranks} ranks were asked of a world of {self.size}"

    def _address(self, index: int) -> Any:
        """Returns what the rendezvous of a rank needs to know."""
        del index

    def _make_meeting_point(self) -> None:
        """Makes what the ranks of a new group need to find each other."""

    def _can_meet(self) -> bool:
        """Says whether the meeting point is still there."""
        return True

    def _remove_meeting_point(self) -> None:
        """Removes what `_make_meeting_point` made."""

    def _fits(self, task: Task) -> bool:
        """Says whether the running ranks can run this task; if not, new ones are started."""
        del task
        return True

    def _unless_closed(self, outcome: Any) -> Any:
        """Replaces the outcome of a rank that ended because the world was closed."""
        if self._is_closed and isinstance(outcome, Fate | None):
            return Fate("crash", "the world was closed")
        return outcome

    def _start(self, task: Task) -> Any:
        """Starts the ranks unless sound ones run; returns None, or why they did not start."""
        if not self._fits(task) or (self._ranks is not None and not self._ranks.all_live()):
            self._stop()
        if self._is_closed or self._ranks is not None:
            return None
        environment = environment_for(self._overrides)
        client = self._client(environment)
        for _ in range(_MEETINGS):
            self._make_meeting_point()
            self._ranks = RankGroup(self._requests(environment), client)
            failures = self._ranks.wait_until_joined(_START_LIMIT, self._can_meet)
            if not any(failures):
                return None
            could_meet = self._can_meet()
            self._stop()
            if could_meet:
                return _failed_start(failures[verdict_rank(failures)])
        return _failed_start(Fate("crash", "the folder where its ranks meet was removed"))

    def _requests(self, environment: Mapping[str, str]) -> list[ForkRequest]:
        name = name_of(self.rendezvous)
        return [
            ForkRequest(
                index,
                name,
                self._address(index),
                self._prepare,
                {**environment, **self._late},
                secrets.token_bytes(wire.TOKEN_SIZE),
            )
            for index in range(self.size)
        ]

    def _client(self, environment: Mapping[str, str]) -> ForkClient:
        if not self._is_alone:
            return fork_client_for(self._preload, self._overrides, environment)
        if self._own_client is None or not self._own_client.is_alive():
            self._end_own_client()
            shared = fork_client_for(self._preload, self._overrides, environment)
            self._own_client = shared.nested()
        return self._own_client

    def _end_own_client(self) -> None:
        if self._own_client is not None:
            self._own_client.end()
            self._own_client = None

    def _stop(self) -> None:
        if self._ranks is not None:
            self._ranks.kill()
            self._ranks.close()
            self._ranks = None
        self._remove_meeting_point()


class LocalWorld(Pool):
    """One process, which keeps what it has imported and compiled from task to task."""

    def __init__(
        self,
        preload: Sequence[str] = (),
        prepare: str | None = None,
        environment: Mapping[str, str] = NO_OVERRIDES,
        *,
        late: Mapping[str, str] = NO_OVERRIDES,
        is_alone: bool = False,
    ) -> None:
        """Starts no process; the first `run` does.

        Args:
            preload: modules that the process finds imported.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in it and in its fork server.
            late: environment variables to set in the process alone.
            is_alone: whether it runs code from outside; see `Pool`.
        """
        super().__init__(1, preload, prepare, environment, late=late, is_alone=is_alone)


def _failed_start(outcome: Any) -> Any:
    prefix = "the world did not start: "
    match outcome:
        case Fate():
            return replace(outcome, reason=prefix + outcome.reason)
        case Raised():
            return replace(outcome, message=prefix + outcome.message)
    return outcome
