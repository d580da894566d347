"""What is seen while a run goes on: a bar on a terminal, plain lines in a pipe. On stderr."""

import itertools
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from conformance.core.questions import AnyCase
from conformance.run.results import Record

EVERY = 5.0  # seconds between the lines in a pipe


class Watch:
    """Follows a run. Failures are shown as they come, so that nobody waits for the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done = self._failed = self._all = 0
        self._last = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[running]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._say("starting the frameworks")
        self._bar.start()
        self._task = self._bar.add_task("run", total=None, running="starting the frameworks")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, header: Mapping[str, Any]) -> None:
        """The frameworks are there; the checks begin."""
        self._all = header["checks"]
        self._bar.update(self._task, total=self._all)
        packages = header["environment"]["packages"]
        self._say(f"{self._all} checks; {', '.join(f'{k} {v}' for k, v in packages.items())}")

    def record(self, record: Record) -> None:
        """One check has ended."""
        self._done += 1
        self._failed += not record.conforms
        failed = f", {self._failed} not conforming" if self._failed else ""
        self._bar.update(self._task, completed=self._done, running=f"{record.id}{failed}")
        if time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            self._say(f"{self._done}/{self._all}{failed}, at {record.id}")

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, soft_wrap=True, highlight=False)


def now_and_then(say: Callable[[str], None]) -> Callable[[str], None]:
    """Says no more than one line in a while; work that is quick says nothing."""
    last = [time.monotonic()]

    def maybe(line: str) -> None:
        if time.monotonic() - last[0] > EVERY:
            last[0] = time.monotonic()
            say(line)

    return maybe


def counted(count: int, say: Callable[[str], None]) -> Callable[[AnyCase], None]:
    """Says now and then how many of the cases are done."""
    numbers, maybe = itertools.count(1), now_and_then(say)
    return lambda case: maybe(f"{next(numbers)}/{count} {case.id}")
