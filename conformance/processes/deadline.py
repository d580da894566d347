"""The deadline of a task, which time without a processor moves.

A deadline means a task that hangs. Where a machine is busy with something else, a first compilation
takes minutes, and nothing hangs. Linux counts for each thread how long it was ready to run and got
no processor; elsewhere no deadline ever moves.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_EVERY, _LOOKS = 0.5, 8  # Seconds between two looks; a short limit has this many.
# Ranks that hang may keep each other from the processors: they end all the same.
MOST_LIMITS = 3
_NANOSECONDS = 1e-9


class Deadline:
    """The deadline of what some processes, and what they start, are at work on."""

    def __init__(self, pids: Sequence[int], started: float, limit: float) -> None:
        """Looks at no process yet.

        Args:
            pids: the processes.
            started: when they began, by the monotonic clock.
            limit: seconds that they may take.
        """
        self._pids, self._started, self._limit = pids, started, limit
        self.every = min(_EVERY, limit / _LOOKS)
        self._looked = started
        self._waits: dict[int, int] | None = None
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        """How long the processes have, with what they waited so far."""
        return min(self._limit + self._waited, MOST_LIMITS * self._limit)

    @property
    def moment(self) -> float:
        """When they are late, by the monotonic clock."""
        return self._started + self.seconds

    @property
    def words(self) -> str:
        """The seconds in words."""
        waited = round(self.seconds - self._limit)
        more = f" and {waited} s more, in which it waited for a processor" if waited else ""
        return f"{self._limit:g} s{more}"

    def look(self) -> None:
        """Adds how long work stood still since the last look: the longest wait of a thread."""
        now = time.monotonic()
        if now - self._looked < self.every:
            return
        waits = dict(wait for pid in self._pids for wait in _waits_of(pid))
        if self._waits is not None:
            since = [wait - self._waits.get(thread, 0) for thread, wait in waits.items()]
            # Threads that wait at the same time hold the work up once.
            self._waited += min(now - self._looked, max(since, default=0) * _NANOSECONDS)
        self._looked, self._waits = now, waits


def _waits_of(pid: int) -> Iterator[tuple[int, int]]:
    """Yields for each thread of a process, and of its children, how long it has waited."""
    # A thread may end between one line and the next.
    with contextlib.suppress(OSError):
        for folder in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                yield int(folder.name), int((folder / "schedstat").read_text().split()[1])
                for child in (folder / "children").read_text().split():
                    yield from _waits_of(int(child))
