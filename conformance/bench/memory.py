"""How much memory the processes under this one hold together, at most."""

import contextlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_EVERY = 0.05


def below(pid: int) -> list[int]:
    """The processes that this one started, and those that they started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it may end while we look
            for child in map(int, task.read_text().split()):
                found += [child, *below(child)]
    return found


def held(pid: int) -> int:
    """Bytes that a process holds; of what it shares with n others, a share (PSS)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class Peak:
    """Looks now and then while it is entered.

    Attributes:
        bytes: the most that was seen; 0 where the system does not tell.
        processes: how many there were then.
    """

    def __init__(self) -> None:
        """Look at nothing yet."""
        self.bytes = self.processes = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._is_over.wait(_EVERY):
            self._look()

    def _look(self) -> None:
        shares = [share for share in map(held, below(os.getpid())) if share]
        if sum(shares) > self.bytes:
            self.bytes, self.processes = sum(shares), len(shares)
