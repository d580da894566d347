"""The ranks of a launch, which are asked together: rank 0 leads, judges and writes."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from conformance.core.ask import Ask
from conformance.core.checks import Check
from conformance.core.outcomes import Answer, Declined, Fate, Outcome, Raised, UsageError
from conformance.core.rank import Rank
from conformance.core.report_folder import ReportFolder
from conformance.core.verdict import Verdict
from conformance.core.versions import refusal as refused_by_version
from conformance.processes import Task, World
from conformance.processes.deadline import MOST_LIMITS
from conformance.processes.task import name_of
from conformance.run import caches, results
from conformance.run.examiner import Examiner
from conformance.run.launch.bus import Bus, Store
from conformance.run.launch.sharing import CutShortError, Sharing, in_words
from conformance.run.results import Record, Run, Writer, record_of
from conformance.run.runner import header_of
from conformance.run.worlds import environment_of
from conformance.subjects import ask as ask_here
from conformance.subjects import solve

# A rank whose peer failed gets so many seconds: most ranks wait for the peer, and would never end.
_GRACE = 1.0
# A rank that starts anew gets so many seconds beyond the most that a check may take.
_GRACE_TO_ARRIVE = 60.0
_NAP = 0.01


class Watcher(Protocol):
    """An observer of a run."""

    def start(self, header: Mapping[str, Any]) -> None:
        """Takes the header when the checks begin."""

    def record(self, record: Record) -> None:
        """Takes the record of a check that has ended."""


class Launch(Protocol):
    """A process of a launch, as its engine describes it."""

    @property
    def engine(self) -> str:
        """Returns the name of the launcher."""

    @property
    def rank(self) -> int:
        """Returns the rank of this process."""

    @property
    def size(self) -> int:
        """Returns how many processes there are."""

    def takes_part(self, check: Check) -> int:
        """Returns how many ranks a check is asked of: the first ranks."""

    def joined(self, generation: int, bus: Bus, environment: Mapping[str, str]) -> World:
        """Makes a world of this rank, which joins the worlds of the other ranks.

        Args:
            generation: how often the ranks joined before.
            bus: the messages, by which rank 0 may send an address.
            environment: environment variables to set in the world.
        """


@dataclass(frozen=True)
class Stood:
    """An answer, and how its process stands.

    Attributes:
        answer: the outcome.
        collectives: how many collectives were begun for it: the same number on every rank.
        has_changed: whether the check left its process in another state, so that it was replaced.
    """

    answer: Outcome
    collectives: int = 0
    has_changed: bool = False


def ask(payload: Ask[Any], rank: Rank) -> Stood:
    """Answers as a rank, and counts the rank's collectives."""
    return Stood(ask_here(payload, rank), _collectives(rank))


def stand(payload: None, rank: Rank) -> Stood:
    """Takes part as a rank that the check does not need."""
    del payload
    return Stood(Answer({}), _collectives(rank))


def _task(function: Callable[[Any, Rank], Stood], payload: object, ranks: int) -> Task:
    return Task(name_of(function), payload, ranks, kinds=(Stood,))


def _collectives(rank: Rank) -> int:
    return rank.group._get_sequence_number_for_group() if rank.group is not None else 0


@dataclass(frozen=True)
class Joined:
    """A launch that this process is part of, with its store and its checks."""

    launch: Launch
    store: Store
    sharing: Sharing


def run(
    joined: Joined,
    opened: Callable[[], ReportFolder] | None,
    timeout: float,
    say: Callable[[str], None],
    watch: Watcher,
) -> Run | None:
    """Asks every check that fits; every rank of the launch calls this function.

    Args:
        joined: this rank's launch, and the checks.
        opened: opens the report folder on rank 0, which alone writes; None on the others. Those
            are told where it cannot be opened.
        timeout: seconds for one check.
        say: prints a line to the user, on rank 0 alone.
        watch: gets the header, and each check as it ends, on rank 0 alone.

    Returns:
        The run, whose footer is None where it was cut short; None in ranks other than 0.

    Raises:
        UsageError: if the folder cannot be written, or the ranks' plans differ.
        CutShortError: in ranks other than 0, if another process ended.
    """
    launch, sharing = joined.launch, joined.sharing
    bus = Bus(joined.store, launch.rank, launch.size)
    ranks = _Ranks(launch, sharing, bus, timeout)
    try:
        if opened is None:
            ranks.answer()
            return None
        return _lead(ranks, sharing, opened(), say, watch)
    finally:
        ranks.close()
        bus.leave()


def _lead(
    ranks: "_Ranks",
    sharing: Sharing,
    folder: ReportFolder,
    say: Callable[[str], None],
    watch: Watcher,
) -> Run:
    started = results.now()
    ranks.agree()
    plan = sharing.plan
    examiner = Examiner(plan.goldens, plan.known, cache=caches.folder())
    try:
        machine = examiner.look_around(plan.frameworks)
        header = header_of(plan, machine, started)
    finally:
        examiner.close()
    launch = ranks.launch
    header["environment"]["launch"] = {"engine": launch.engine, "processes": launch.size}
    for line in in_words(sharing, f"{launch.engine}, {launch.size} processes"):
        say(line)
    watch.start(header)
    with Writer(folder, header) as writer:
        try:
            for check, verdict, seconds in ranks.lead(examiner):
                record = record_of(check, verdict, seconds)
                writer.add(record)
                watch.record(record)
        except (CutShortError, KeyboardInterrupt) as ended:
            say(f"cut short: {ended or 'interrupted'}")
            return writer.cut_short()
        return writer.finish()


class _Ranks:
    """This process among its peers: a world of one rank, and messages from the other ranks."""

    def __init__(self, launch: Launch, sharing: Sharing, bus: Bus, timeout: float) -> None:
        self.launch, self._sharing, self._bus, self._timeout = launch, sharing, bus, timeout
        self._environment = environment_of(None if launch.rank else caches.folder())
        self._generation = 0
        self._world: World | None = None
        self._asked = [c for c in sharing.plan.checks if c.id not in sharing.refused]

    def agree(self) -> None:
        """Checks, on rank 0, that all ranks have the same plan and goldens.

        Raises:
            UsageError: names a rank that has not.
        """
        own = self._identity()
        for rank in range(1, self.launch.size):
            other = self._bus.take(f"plan/{rank}", rank)
            if other != own:
                self._bus.put("start", False)
                raise UsageError(
                    f"worker: rank {rank} has other checks or goldens than rank 0; the same "
                    "version of the suite and the same arguments are meant everywhere"
                )
        self._bus.put("start", True)

    def answer(self) -> None:
        """Answers as a rank other than 0."""
        self._bus.put(f"plan/{self.launch.rank}", self._identity())
        if not self._bus.take("start", 0):
            return
        for number, check in enumerate(self._asked):
            if not self._bus.take(f"asked/{number}", 0):
                continue
            if self.launch.rank < self.launch.takes_part(check):
                self._bus.put(f"outcome/{number}/{self.launch.rank}", self._ask(number, check))
            elif self._world is None:
                # A new group needs all ranks, also those that the check does not ask.
                self._run(number, _task(stand, None, self.launch.size))
            self._follow(self._bus.take(f"next/{number}", 0))
        self._bus.put(f"bye/{self.launch.rank}", True)

    def lead(self, examiner: Examiner) -> Iterator[tuple[Check, Verdict, float]]:
        """Leads as rank 0, and yields every check with its verdict and its seconds, as they end.

        Args:
            examiner: prepares and judges; rank 0 knows which devices are missing, and decides for
                all ranks whether a check is asked.
        """
        numbers = {check.id: number for number, check in enumerate(self._asked)}
        for check in self._sharing.plan.checks:
            if check.id not in numbers:
                reason = self._sharing.refused[check.id]
                yield check, Verdict("unsupported", reason), 0.0
                continue
            number, started = numbers[check.id], time.perf_counter()
            prepared = examiner.prepare(check)
            self._bus.put(f"asked/{number}", not isinstance(prepared, Verdict))
            if isinstance(prepared, Verdict):
                yield check, prepared, 0.0
                continue
            replies = [self._ask(number, check)]
            replies += self._of_others(number, self.launch.takes_part(check))
            seconds = time.perf_counter() - started
            is_sound = _is_sound(replies)
            self._bus.put(f"next/{number}", is_sound)
            self._follow(is_sound)
            outcomes = [reply.answer if isinstance(reply, Stood) else reply for reply in replies]
            yield check, examiner.judge(prepared, outcomes), seconds
        for rank in range(1, self.launch.size):
            # The store may live on this machine, which therefore must leave last.
            self._bus.take(f"bye/{rank}", rank)

    def _of_others(self, number: int, ranks: int) -> list[Any]:
        """Returns the outcomes of the other ranks of a check."""
        late = time.monotonic() + MOST_LIMITS * self._timeout + _GRACE_TO_ARRIVE

        def is_late() -> bool:
            return time.monotonic() > late

        return [
            self._bus.take(f"outcome/{number}/{rank}", rank, is_late)
            or Fate("timeout", "gave no answer to rank 0")
            for rank in range(1, ranks)
        ]

    def close(self) -> None:
        """Ends this rank's process."""
        if self._world is not None:
            self._world.close()
            self._world = None

    def _identity(self) -> tuple[str, str, float]:
        plan = self._sharing.plan
        return plan.digest, plan.goldens.sha256, self._timeout

    def _follow(self, is_sound: bool) -> None:
        """Makes all ranks join anew after anything abnormal."""
        if not is_sound:
            self.close()
            self._generation += 1

    def _ask(self, number: int, check: Check) -> Any:
        """Returns this rank's outcome of a check."""
        if reason := refused_by_version(check):
            return Declined("unsupported", reason)
        golden = self._sharing.plan.goldens.of(check.case)
        inputs = golden.inputs or solve(check.case).inputs
        payload: Ask[Any] = Ask(check.implementation, check.case.question, inputs, check.device)
        return self._run(number, _task(ask, payload, self.launch.takes_part(check)))

    def _run(self, number: int, task: Task) -> Any:
        """Returns the outcome of this rank's process, which ends soon once a peer has failed."""
        world = self._world
        if world is None:
            world = self.launch.joined(self._generation, self._bus, self._environment)
            self._world = world
        outcomes: list[Any] = []
        thread = threading.Thread(
            target=lambda: outcomes.extend(world.run(task, self._timeout)), daemon=True
        )
        thread.start()
        peers = [rank for rank in range(self.launch.size) if rank != self.launch.rank]
        failed = f"failed/{number}"
        ended_early = False
        while thread.is_alive():
            thread.join(_NAP)
            if thread.is_alive() and self._bus.is_there([failed]):
                thread.join(_GRACE)
                ended_early = thread.is_alive()
                world.close()
                thread.join()
            self._bus.look_after(peers)
        outcome = outcomes[0] if outcomes else Fate("crash", "the world ended without a word")
        if ended_early and isinstance(outcome, Fate):
            outcome = Fate("timeout", "was ended, since another rank had failed")
        elif isinstance(outcome, Raised | Fate) and task.ranks > 1:
            self._bus.put(failed, True)
        if world.changes and not isinstance(outcome, Fate):
            outcome = outcome if isinstance(outcome, Stood) else Stood(outcome)
            outcome = replace(outcome, has_changed=True)
        return outcome


def _is_sound(replies: Sequence[Any]) -> bool:
    """Says whether the ranks are still in step; a single rank survives an exception."""
    if any(isinstance(reply, Fate) for reply in replies):
        return False
    if any(isinstance(reply, Stood) and reply.has_changed for reply in replies):
        return False
    if len(replies) > 1 and any(isinstance(reply, Raised) for reply in replies):
        return False
    return len({reply.collectives for reply in replies if isinstance(reply, Stood)}) <= 1
