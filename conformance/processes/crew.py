"""The processes of one world, asked together: whoever is late or dies must not hold up the rest."""

import contextlib
import math
import select
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from conformance.core.outcomes import Fate, Raised
from conformance.processes.fork_client import Nursery
from conformance.processes.fork_request import Birth
from conformance.processes.rank_handle import Member
from conformance.processes.root_cause import is_failure, verdict_rank

# After one rank raised, the others have as long again as that took, and this many seconds at least,
# to fail for a reason of their own; most of them wait for the failed one and would never end.
_GRACE = 1.0
_GRACE_AFTER_CRASH = 0.1
# A process that runs any code at all writes its stack at once; a stopped one never does.
_STACK_PATIENCE, _STACK_SETTLED = 0.5, 0.02


class Crew:
    """Processes that were started together and are ended together."""

    def __init__(self, births: Sequence[Birth], nursery: Nursery) -> None:
        """Have them born.

        Args:
            births: one for each rank, in order.
            nursery: where.

        Raises:
            NurseryDiedError: if there is no nursery any more.
        """
        self._nursery = nursery
        self._members: list[Member] = []
        self.is_sound = True  # whether it can be given another task
        try:
            for birth in births:
                self._members.append(Member(birth, nursery))
        except BaseException:
            self.end()
            self.close()
            raise

    def all_live(self) -> bool:
        """Whether no process has ended."""
        return not any(member.has_ended() for member in self._members)

    def arrive(self, limit: float) -> list[Any]:
        """What each rank says once it has found its place: None, or how it failed."""
        return self._collect(self._members, time.monotonic(), limit)

    def ask(self, message: bytes, ranks: int, limit: float) -> list[Any]:
        """What each of the first ranks answers, or its fate.

        Args:
            message: the task, as `child.py` reads it.
            ranks: how many take part.
            limit: seconds.
        """
        started = time.monotonic()
        for member in self._members[:ranks]:
            member.tell(message, started + limit)
        return self._collect(self._members[:ranks], started, limit)

    def end(self) -> None:
        """Kill every process; another thread may be waiting for them, and sees them end."""
        self._nursery.end_ranks([member.pid for member in self._members])

    def close(self) -> None:
        """Close the descriptors; only for the thread that asks."""
        for member in self._members:
            member.close()

    def _collect(self, members: Sequence[Member], started: float, limit: float) -> list[Any]:
        deadline = until = started + limit
        replies: dict[int, tuple[Any, Any]] = {}
        waiting, owners = _watch(members)
        while len(replies) < len(members):
            ready = waiting.poll(max(0.0, until - time.monotonic()) * 1000)
            if not ready:
                break
            for descriptor, _ in ready:
                index = owners[descriptor]
                if index in replies:  # both of its descriptors were ready
                    continue
                reply = _reply(members[index], deadline)
                if reply is None:  # it closed its socket, and is about to end
                    waiting.unregister(descriptor)
                    continue
                replies[index] = reply
                for heard in (members[index].talk.fileno(), members[index].report):
                    with contextlib.suppress(KeyError):
                        waiting.unregister(heard)
                until = min(until, _patience(reply[0], started))
        self._judge_soundness(list(replies.values()), len(members))
        outcomes = {index: value for index, (value, _) in replies.items()}
        late = {index: member for index, member in enumerate(members) if index not in outcomes}
        outcomes |= self._fates_of_late(late, outcomes, time.monotonic() - started, limit)
        return [outcomes[index] for index in range(len(members))]

    def _judge_soundness(self, replies: Sequence[tuple[Any, Any]], asked: int) -> None:
        """A crew in which anything differs between the ranks cannot be trusted with another task.

        One that works alone survives an exception. Where there are several, whoever raised may
        have left the others a collective behind.
        """
        values = [value for value, _ in replies]
        standings = [standing for _, standing in replies]
        self.is_sound = (
            len(replies) == asked
            and not any(isinstance(value, Fate) for value in values)
            and not (asked > 1 and any(isinstance(value, Raised) for value in values))
            and all(standing is not None and standing == standings[0] for standing in standings)
        )

    def _fates_of_late(
        self, late: Mapping[int, Member], others: Mapping[int, Any], elapsed: float, limit: float
    ) -> dict[int, Fate]:
        if not late:
            return {}
        self._nursery.signal([member.pid for member in late.values()], signal.SIGUSR1)
        _wait_for_stacks(list(late.values()))
        reason = _lateness(others, elapsed, limit)
        fates = {}
        for index, member in late.items():
            place = member.stack()
            fates[index] = Fate("timeout", f"{reason}; it was in {place}" if place else reason)
        return fates


def _patience(outcome: Any, started: float) -> float:
    """Until when the other ranks are waited for, now that one gave this."""
    now = time.monotonic()
    if isinstance(outcome, Fate):  # nothing decides more than a crash
        return now + _GRACE_AFTER_CRASH
    return now + max(_GRACE, now - started) if is_failure(outcome) else math.inf


def _lateness(others: Mapping[int, Any], elapsed: float, limit: float) -> str:
    ranks = list(others)
    decisive = ranks[verdict_rank(list(others.values()))] if ranks else None
    if decisive is not None and is_failure(others[decisive]) and elapsed < limit:
        return f"ended after {elapsed:.1f} s, since rank {decisive} had failed"
    answered = [str(rank) for rank in sorted(ranks) if not is_failure(others[rank])]
    with_answer = f" when rank {', '.join(answered)} had answered" if answered else ""
    return f"no answer in {limit:g} s{with_answer}"


def _watch(members: Sequence[Member]) -> tuple[select.poll, dict[int, int]]:
    """What to wait for, and whose each descriptor is."""
    waiting = select.poll()
    owners = {}
    for index, member in enumerate(members):
        for descriptor in (member.talk.fileno(), member.report):
            waiting.register(descriptor, select.POLLIN)
            owners[descriptor] = index
    return waiting, owners


def _reply(member: Member, deadline: float) -> tuple[Any, Any] | None:
    # In this order: what a process sent before it ended is there once it has ended, and counts.
    has_ended = member.has_ended()
    if member.has_spoken() and (reply := member.hear(deadline)) is not None:
        return reply
    return (member.crash(), None) if has_ended else None


def _wait_for_stacks(members: Sequence[Member]) -> None:
    late = time.monotonic() + _STACK_PATIENCE
    sizes = [0]
    while time.monotonic() < late:
        time.sleep(_STACK_SETTLED)
        before, sizes = sizes, [member.stack_size() for member in members]
        if all(sizes) and sizes == before:
            return
