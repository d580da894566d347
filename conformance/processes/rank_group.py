"""Asks the ranks of one world together: a late or dead rank must not hold up the others."""

import contextlib
import math
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance.core.outcomes import Fate, Raised
from conformance.processes.deadline import Deadline
from conformance.processes.fork_client import ForkClient
from conformance.processes.fork_request import ForkRequest
from conformance.processes.rank_handle import Expected, RankHandle
from conformance.processes.replies import Reply
from conformance.processes.root_cause import is_failure, verdict_rank

# After one rank raised, the others have as long again as that took, and this many seconds at least,
# to fail for a reason of their own; most of them wait for the failed one and would never end.
_GRACE = 1.0
_GRACE_AFTER_CRASH = 0.1
# A process that runs any code at all writes its stack at once; a stopped one never does.
_STACK_PATIENCE, _STACK_SETTLED = 0.5, 0.02


class RankGroup:
    """Ranks that are started together and ended together."""

    def __init__(self, requests: Sequence[ForkRequest], client: ForkClient) -> None:
        """Forks the ranks.

        Args:
            requests: one for each rank, in order.
            client: the fork server.

        Raises:
            ForkServerDiedError: if there is no server any more.
        """
        self._client = client
        self._ranks: list[RankHandle] = []
        self.is_sound = True  # whether the ranks can be given another task
        self.changes: tuple[str, ...] = ()  # what the last task changed in its processes
        self._first = [Expected(request.token) for request in requests]
        try:
            for request in requests:
                self._ranks.append(RankHandle(request, client))
        except BaseException:
            self.kill()
            self.close()
            raise

    def all_live(self) -> bool:
        """Says whether no process has ended, and none has sent what it was not asked for."""
        return not any(rank.has_ended() or rank.has_sent() for rank in self._ranks)

    def wait_until_joined(self, limit: float, can_meet: Callable[[], bool]) -> list[Any]:
        """Returns for each rank None once it has joined its peers, or how it failed to.

        Args:
            limit: seconds.
            can_meet: says whether waiting on makes sense.
        """
        return self._collect(self._ranks, self._first, time.monotonic(), limit, can_meet)

    def ask(self, message: bytes, size: int, expected: Expected, limit: float) -> list[Any]:
        """Returns the values of the first ranks, or how they failed.

        Args:
            message: the task, as `rank_process.py` reads it.
            size: how many ranks take part.
            expected: what their replies must look like.
            limit: seconds.
        """
        started = time.monotonic()
        for rank in self._ranks[:size]:
            rank.send(message, started + limit)
        return self._collect(self._ranks[:size], [expected] * size, started, limit)

    def kill(self) -> None:
        """Kills every process; another thread may be waiting for them, and sees them end."""
        self._client.kill_ranks([rank.pid for rank in self._ranks])

    def close(self) -> None:
        """Closes the descriptors; only for the thread that asks."""
        for rank in self._ranks:
            rank.close()

    def _collect(
        self,
        ranks: Sequence[RankHandle],
        expected: Sequence[Expected],
        started: float,
        limit: float,
        can_go_on: Callable[[], bool] = lambda: True,
    ) -> list[Any]:
        until = math.inf
        deadline = Deadline([rank.pid for rank in ranks], started, limit)
        replies: dict[int, Reply] = {}
        poll, owners = _poll_of(ranks)
        while len(replies) < len(ranks):
            deadline.look()
            end = min(until, deadline.moment)
            ready = poll.poll(min(deadline.every, max(0.0, end - time.monotonic())) * 1000)
            if not ready and (time.monotonic() >= end or not can_go_on()):
                break
            for rank in ranks:
                rank.trim_log()
            for descriptor, _ in ready:
                index = owners[descriptor]
                if index in replies:  # Both descriptors of the rank were ready.
                    continue
                reply = _reply(ranks[index], expected[index], deadline.moment)
                if reply is None:  # The rank closed its socket, and is about to end.
                    poll.unregister(descriptor)
                    continue
                replies[index] = reply
                for watched in (ranks[index].tasks.fileno(), ranks[index].exit_pipe):
                    with contextlib.suppress(KeyError):
                        poll.unregister(watched)
                until = min(until, _patience(reply.value, started))
        self._judge_soundness(list(replies.values()), len(ranks))
        outcomes = {index: reply.value for index, reply in replies.items()}
        late = {index: rank for index, rank in enumerate(ranks) if index not in outcomes}
        outcomes |= self._fates_of_late(late, outcomes, time.monotonic() - started, deadline)
        return [outcomes[index] for index in range(len(ranks))]

    def _judge_soundness(self, replies: Sequence[Reply], size: int) -> None:
        """Decides whether the ranks can be trusted with another task.

        They cannot where anything differs between them. A rank that works alone survives an
        exception. Among several ranks, the one that raised may have left a collective behind.
        """
        values = [reply.value for reply in replies]
        sync_states = [reply.sync_state for reply in replies]
        self.changes = tuple(dict.fromkeys(words for reply in replies for words in reply.changes))
        self.is_sound = (
            len(replies) == size
            and not self.changes
            and not any(isinstance(value, Fate) for value in values)
            and not (size > 1 and any(isinstance(value, Raised) for value in values))
            and all(state is not None and state == sync_states[0] for state in sync_states)
        )

    def _fates_of_late(
        self,
        late: Mapping[int, RankHandle],
        others: Mapping[int, Any],
        elapsed: float,
        deadline: Deadline,
    ) -> dict[int, Fate]:
        if not late:
            return {}
        self._client.signal([rank.pid for rank in late.values()], signal.SIGUSR1)
        _wait_for_stacks(list(late.values()))
        reason = _lateness(others, elapsed, deadline)
        fates = {}
        for index, rank in late.items():
            location = rank.stack()
            fates[index] = Fate(
                "timeout", f"{reason}; it was in {location}" if location else reason
            )
        return fates


def _patience(outcome: Any, started: float) -> float:
    """Returns until when to wait for the other ranks, after one rank's outcome."""
    now = time.monotonic()
    if isinstance(outcome, Fate):  # No later outcome decides more than a crash.
        return now + _GRACE_AFTER_CRASH
    return now + max(_GRACE, now - started) if is_failure(outcome) else math.inf


def _lateness(others: Mapping[int, Any], elapsed: float, deadline: Deadline) -> str:
    ranks = list(others)
    decisive = ranks[verdict_rank(list(others.values()))] if ranks else None
    if decisive is not None and is_failure(others[decisive]) and elapsed < deadline.seconds:
        return f"ended after {elapsed:.1f} s, since rank {decisive} had failed"
    answered = [str(rank) for rank in sorted(ranks) if not is_failure(others[rank])]
    with_answer = f" when rank {', '.join(answered)} had answered" if answered else ""
    return f"no answer in {deadline.words}{with_answer}"


def _poll_of(ranks: Sequence[RankHandle]) -> tuple[select.poll, dict[int, int]]:
    """Returns a poll over all descriptors of the ranks, and the rank of each descriptor."""
    poll = select.poll()
    owners = {}
    for index, rank in enumerate(ranks):
        for descriptor in (rank.tasks.fileno(), rank.exit_pipe):
            poll.register(descriptor, select.POLLIN)
            owners[descriptor] = index
    return poll, owners


def _reply(rank: RankHandle, expected: Expected, deadline: float) -> Reply | None:
    # The order matters: a reply that was sent before the process ended is there once it has ended,
    # and counts.
    has_ended = rank.has_ended()
    if rank.has_sent() and (reply := rank.receive(expected, deadline)) is not None:
        return reply
    return Reply(rank.crash()) if has_ended else None


def _wait_for_stacks(ranks: Sequence[RankHandle]) -> None:
    deadline = time.monotonic() + _STACK_PATIENCE
    sizes = [0]
    while time.monotonic() < deadline:
        time.sleep(_STACK_SETTLED)
        before, sizes = sizes, [rank.stack_size() for rank in ranks]
        if all(sizes) and sizes == before:
            return
