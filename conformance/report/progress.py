"""What is seen while a run goes on: a bar on a terminal, plain lines in a pipe. On stderr."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from conformance.core.checks import Check, number_of_checks
from conformance.core.outside_words import one_line
from conformance.core.questions import AnyCase
from conformance.run.costs import seconds_of_case
from conformance.run.results import Record

_USUAL = 20.0  # Seconds at the recorded speed that a run begins with.
EVERY = 5.0  # Seconds between the lines in a pipe, and before the first estimate.


class Watch:
    """Follows a run in one line: how many checks are done, how many failed, what is left."""

    def __init__(
        self,
        console: Console,
        checks: Sequence[Check],
        clock: Callable[[], float] = time.monotonic,
        jobs: int = 1,
    ) -> None:
        """Prepares to follow these checks; their recorded costs are what an estimate rests on."""
        self._console, self._clock, self._jobs = console, clock, jobs
        self._costs = {
            check.id: seconds_of_case(check.implementation, check.case) for check in checks
        }
        self._cost = sum(self._costs.values())
        self._done = self._failed = self._all = 0
        self._done_cost = 0.0
        self._began = self._last = clock()
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._say("starting the frameworks")
        self._bar.start()
        self._task = self._bar.add_task("starting the frameworks", total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, header: Mapping[str, Any]) -> None:
        """Begins to count: the frameworks are there."""
        self._all = header["checks"]
        self._began = self._last = self._clock()
        self._bar.update(self._task, total=self._all, description=self._line())
        packages = header["environment"]["packages"]
        about = in_words(self._cost / self._jobs)
        versions = ", ".join(f"{k} {v}" for k, v in packages.items())
        self._say(
            "; ".join(filter(None, (f"{number_of_checks(self._all)}, about {about}", versions)))
        )

    def record(self, record: Record) -> None:
        """Counts a check that has ended."""
        self._done += 1
        self._failed += not record.conforms
        self._done_cost += self._costs.get(record.id, 0.0)
        self._bar.update(self._task, completed=self._done, description=self._line())
        if self._clock() - self._last >= EVERY:
            self._last = self._clock()
            self._say(self._line())

    def _line(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done}/{number_of_checks(self._all)}{failed}{self._left()}"

    def _left(self) -> str:
        """Estimates what is left: the cost of it, at the speed of this run so far.

        The recorded speed counts as much as a first few seconds do: until processes have started,
        a run's own speed is next to nothing.
        """
        passed = self._clock() - self._began
        if passed < EVERY or not self._done_cost or self._done >= self._all:
            return ""
        speed = (self._done_cost + self._jobs * _USUAL) / (passed + _USUAL)
        return f", about {in_words((self._cost - self._done_cost) / speed)} left"

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(one_line(line), soft_wrap=True, highlight=False, markup=False)


def in_words(seconds: float) -> str:
    """Rounds a time up, as coarsely as an estimate is.

    >>> in_words(3), in_words(44), in_words(61), in_words(3700)
    ('10 s', '50 s', '2 min', '62 min')
    """
    tens = max(1, -int(-seconds // 10))
    return f"{10 * tens} s" if tens < 6 else f"{-int(-seconds // 60)} min"


def now_and_then(say: Callable[[str], None]) -> Callable[[str], None]:
    """Returns what says no more than one line in a while; quick work says nothing."""
    last = [time.monotonic()]

    def maybe(line: str) -> None:
        if time.monotonic() - last[0] > EVERY:
            last[0] = time.monotonic()
            say(line)

    return maybe


def counted(count: int, say: Callable[[str], None]) -> Callable[[AnyCase], None]:
    """Returns what says now and then how many of the cases are done."""
    numbers, maybe = itertools.count(1), now_and_then(say)
    return lambda case: maybe(f"{next(numbers)}/{count} {case.id}")
