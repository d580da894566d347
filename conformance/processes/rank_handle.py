"""One rank, as the process that asks sees it."""

import contextlib
import os
import select
import socket
import tempfile
from typing import Any

from conformance.core.outcomes import Fate
from conformance.processes import exit_reasons as fates
from conformance.processes import stack_frames as frames
from conformance.processes import wire
from conformance.processes.fork_client import Nursery
from conformance.processes.fork_request import Birth
from conformance.processes.replies import unpacked

_LARGE_LOG = 1 << 20


class Member:
    """A process of a world, from its birth to the closing of its descriptors."""

    def __init__(self, birth: Birth, nursery: Nursery) -> None:
        """Have it born.

        Args:
            birth: what it is to be.
            nursery: where.

        Raises:
            NurseryDiedError: if there is no nursery any more.
        """
        self._folder = birth.folder
        self._log = tempfile.TemporaryFile(mode="ab+")  # noqa: SIM115 - closed in close()
        self._stacks = tempfile.TemporaryFile(mode="ab+")  # noqa: SIM115
        self._log_start = 0
        self._status: int | None = None
        self.talk, theirs = socket.socketpair()
        self._report, report = os.pipe()
        try:
            files = (self._log.fileno(), self._stacks.fileno())
            self.pid = nursery.bear(birth, [theirs.fileno(), *files, report])
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
            os.close(report)  # the nursery's copy is the only one now: if it dies, we see the end

    @property
    def report(self) -> int:
        """A descriptor that can be read once the process has ended."""
        return self._report

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return _is_readable(self._report)

    def has_spoken(self) -> bool:
        """Whether there is something to hear: a reply, or the end of its socket."""
        return _is_readable(self.talk.fileno())

    def tell(self, message: bytes, deadline: float) -> None:
        """Send a task; a process that cannot take it is seen to be late or dead soon enough."""
        self._log_start = os.fstat(self._log.fileno()).st_size
        if self._log_start > _LARGE_LOG:
            os.ftruncate(self._log.fileno(), 0)
            self._log_start = 0
        with contextlib.suppress(OSError):
            wire.send(self.talk, message, deadline)

    def hear(self, deadline: float) -> tuple[Any, Any] | None:
        """The value and the standing that it sent; None if it sent no whole reply."""
        try:
            return unpacked(wire.receive(self.talk, deadline))
        except (OSError, EOFError):
            return None

    def crash(self) -> Fate:
        """How it ended: only to be asked once its report can be read."""
        told = os.read(self._report, 16)
        how = fates.ending(int(told)) if told else "it went down with its nursery"
        if place := self.stack():
            how += f" in {place}"
        return Fate("crash", how + fates.last_words(self._log.fileno(), self._log_start))

    def stack(self) -> str:
        """`FILE:LINE, in FUNCTION` where it crashed, or was when it was asked; empty if unknown."""
        file = self._stacks.fileno()
        dump = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
        return frames.described(dump, self._folder)

    def stack_size(self) -> int:
        """How much of its stack it has written."""
        return os.fstat(self._stacks.fileno()).st_size

    def close(self) -> None:
        """Close the descriptors; without its socket the process ends by itself."""
        self.talk.close()
        self._log.close()
        self._stacks.close()
        if self._report >= 0:
            os.close(self._report)
            self._report = -1


def _is_readable(descriptor: int) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(0))
