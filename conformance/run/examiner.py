"""Asks checks one at a time, in processes of their own, and judges the answers."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from conformance.arithmetic.system import Uncertain
from conformance.core.ask import Ask
from conformance.core.checks import Check, undeclared
from conformance.core.comparison import Arrays
from conformance.core.formats import Bits
from conformance.core.golden import Golden
from conformance.core.outcomes import Outcome
from conformance.core.questions import AnyCase
from conformance.core.verdict import Verdict
from conformance.core.versions import refusal
from conformance.frameworks import Description, is_installed
from conformance.gradient_mean.solve import at_precision
from conformance.processes import Task, World
from conformance.run.devices import NOWHERE, Machine
from conformance.run.known import Known
from conformance.run.verdict import judge
from conformance.run.worlds import is_for_outside, world_named, world_of
from conformance.subjects import solve

TIMEOUT = 120.0
# More files from outside than these are not kept in processes that wait for their next check.
_MOST_OUTSIDE = 4


class Goldens(Protocol):
    """The source of the right answers."""

    def of(self, case: AnyCase) -> Golden:
        """Returns the inputs and the right answer of a case."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A check that can be asked, with its inputs and its right answer.

    Attributes:
        check: the check.
        golden: the right answer, with the bounds that hold on the check's device.
        inputs: the input tensors, also where the golden consists of hashes alone.
    """

    check: Check
    golden: Golden
    inputs: Arrays

    @property
    def limit(self) -> int:
        """Returns the most bytes of an answer: many times the right size, so most are judged."""
        arrays = (*self.inputs.values(), *self.golden.answers.values())
        return (1 << 20) + 16 * sum(array.nbytes for array in arrays)

    @property
    def ask(self) -> Ask[Any]:
        """Returns the question as it is sent to a rank's process."""
        check = self.check
        return Ask(check.implementation, check.case.question, self.inputs, check.device)


class Examiner:
    """An examiner, which asks checks in processes that it keeps; for one thread alone."""

    def __init__(
        self,
        goldens: Goldens,
        known: Sequence[Known] = (),
        timeout: float = TIMEOUT,
        cache: Path | None = None,
        machine: Machine = NOWHERE,
    ) -> None:
        """Starts no process; the first `examine` does.

        Args:
            goldens: the right answers.
            known: differences that do not count.
            timeout: seconds that one check may take.
            cache: a folder for compiled code; by default the frameworks choose one.
            machine: the devices: checks on missing devices are unsupported, and the measured
                precision widens bounds.
        """
        self._machine = machine
        self._goldens, self._known, self._timeout = goldens, known, timeout
        self._cache = cache
        self._worlds: dict[str, World] = {}

    def examine(self, check: Check) -> tuple[Verdict, float]:
        """Returns the verdict on a check, and the seconds that its implementation took."""
        prepared = self.prepare(check)
        if isinstance(prepared, Verdict):
            return prepared, 0.0
        started = time.perf_counter()
        task = Task("conformance.subjects:ask", prepared.ask, check.ranks, prepared.limit)
        world = self._world(world_of(check))
        outcomes = world.run(task, self._timeout)
        seconds = time.perf_counter() - started
        return _with_changes(self.judge(prepared, outcomes), world.changes), seconds

    def prepare(self, check: Check) -> Prepared | Verdict:
        """Returns the check with its inputs and golden, or a verdict where it cannot be asked."""
        framework, device = check.implementation.framework, check.device
        reason = "" if is_installed(framework) else f"{framework} is not installed"
        reason = reason or undeclared(check)
        if reason := reason or self._machine.lacks(framework, device) or refusal(check):
            return Verdict("unsupported", reason)
        golden = self._goldens.of(check.case)
        bits = self._machine.matmul_bits(
            framework, device, getattr(check.case.question, "dtype", "")
        )
        try:
            golden = at_precision(check.case, golden, bits)
        except Uncertain as error:
            return Verdict(
                "not-exercised",
                f"products of matrices keep {bits} bits on {device}, which leaves {error} "
                "uncertain: there is no bound",
            )
        return Prepared(check, golden, golden.inputs or solve(check.case).inputs)

    def judge(self, prepared: Prepared, outcomes: Sequence[Outcome]) -> Verdict:
        """Returns the verdict on the outcomes of a check's ranks."""
        return judge(prepared.check, prepared.golden, outcomes, self._known)

    def look_around(self, frameworks: Iterable[str]) -> Machine:
        """Asks frameworks to describe themselves and this machine, and keeps the descriptions.

        A framework that is not installed, or does not start, has none.
        """
        described = {}
        for framework in filter(is_installed, frameworks):
            task = Task("conformance.frameworks:describe", framework, kinds=(Description, Bits))
            [outcome] = self._world(framework).run(task, max(self._timeout, TIMEOUT))
            if isinstance(outcome, Description):
                described[framework] = outcome
        self._machine = Machine(described)
        return self._machine

    def close(self) -> None:
        """Ends all processes; a check for which another thread waits becomes a crash."""
        for world in self._worlds.values():
            world.close()

    def keep_only(self, world: str) -> None:
        """Closes all other worlds: eight idle ranks hold memory."""
        for name in [name for name in self._worlds if name != world]:
            self._worlds.pop(name).close()

    def _world(self, name: str) -> World:
        if name not in self._worlds:
            outside = [other for other in self._worlds if is_for_outside(other)]
            if is_for_outside(name) and len(outside) == _MOST_OUTSIDE:
                self._worlds.pop(outside[0]).close()
            self._worlds[name] = world_named(name, self._cache)
        return self._worlds[name]


def _with_changes(verdict: Verdict, changes: Sequence[str]) -> Verdict:
    """Adds to a verdict's reason what the check changed in its process and left so."""
    if not changes:
        return verdict
    words = f"it left its process changed ({', '.join(changes)}), which was replaced"
    return replace(verdict, reason="; ".join(filter(None, (verdict.reason, words))))
