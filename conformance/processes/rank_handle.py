"""Holds one rank for the process that asks: its socket, its log, its stacks, its exit status."""

import contextlib
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from conformance.core.outcomes import Fate
from conformance.processes import exit_reasons, stack_frames, wire
from conformance.processes.fork_client import ForkClient
from conformance.processes.fork_request import ForkRequest
from conformance.processes.replies import HEADER_LIMIT, Reply, decoded
from conformance.processes.temp_folders import nameless_file

_LARGE_LOG, _LARGEST_LOG = 1 << 20, 1 << 26


@dataclass(frozen=True)
class Expected:
    """What a reply must look like.

    Attributes:
        token: its first bytes, which no accident writes.
        limit: how many bytes its arrays may have.
        kinds: the dataclasses that it may be made of, beside the outcomes.
    """

    token: bytes
    limit: int = 0
    kinds: Iterable[type] = ()


class RankHandle:
    """A rank's process, from its fork to the closing of its descriptors."""

    def __init__(self, request: ForkRequest, client: ForkClient) -> None:
        """Forks the process.

        Args:
            request: what the rank is to be.
            client: the fork server.

        Raises:
            ForkServerDiedError: if there is no server any more.
        """
        self._folder = request.folder
        self._log, self._stacks = nameless_file(), nameless_file()
        self._log_start = 0
        self.tasks, rank_end = socket.socketpair()
        self._exit_pipe, server_end = os.pipe()
        try:
            files = (self._log.fileno(), self._stacks.fileno())
            self.pid = client.fork(request, [rank_end.fileno(), *files, server_end])
        except BaseException:
            self.close()
            raise
        finally:
            rank_end.close()
            # The server's copy is the only one now: if the server dies, the pipe closes.
            os.close(server_end)

    @property
    def exit_pipe(self) -> int:
        """A descriptor that can be read once the process has ended."""
        return self._exit_pipe

    def has_ended(self) -> bool:
        """Says whether the process has ended."""
        return wire.is_readable(self._exit_pipe)

    def has_sent(self) -> bool:
        """Says whether there is something to receive: a reply, or the end of the socket."""
        return wire.is_readable(self.tasks.fileno())

    def send(self, message: bytes, deadline: float) -> None:
        """Sends a task; a process that cannot take it is found late or dead soon enough."""
        self._log_start = os.fstat(self._log.fileno()).st_size
        self._cut_log(_LARGE_LOG)
        with contextlib.suppress(OSError):
            wire.send(self.tasks, message, deadline)

    def trim_log(self) -> None:
        """Drops what the process printed if it is so much that it would fill the disk."""
        self._cut_log(_LARGEST_LOG)

    def _cut_log(self, limit: int) -> None:
        log = self._log.fileno()
        if os.fstat(log).st_size > limit:
            os.ftruncate(log, 0)
            os.lseek(log, 0, os.SEEK_SET)  # The process goes on from there: it shares the offset.
            self._log_start = 0

    def receive(self, expected: "Expected", deadline: float) -> Reply | None:
        """Receives a reply; None if no whole reply came."""
        limit = expected.limit + 2 * HEADER_LIMIT
        try:
            message = wire.receive_reply(self.tasks, expected.token, limit, deadline)
        except (OSError, EOFError):
            return None
        except wire.GarbledError as error:
            return Reply(Fate("crash", str(error)))
        return decoded(message, expected.kinds)

    def crash(self) -> Fate:
        """Says how the process ended; to be called once its exit pipe can be read."""
        status = os.read(self._exit_pipe, 16)
        reason = (
            exit_reasons.exit_reason(int(status)) if status else "it went down with its fork server"
        )
        if location := self.stack():
            reason += f" in {location}"
        return Fate("crash", reason + exit_reasons.last_output(self._log.fileno(), self._log_start))

    def stack(self) -> str:
        """Returns `FILE:LINE, in FUNCTION` of a crash or of the last signal; empty if unknown."""
        file = self._stacks.fileno()
        dump = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
        return stack_frames.described(dump, self._folder)

    def stack_size(self) -> int:
        """Returns how many bytes of its stack the process has written."""
        return os.fstat(self._stacks.fileno()).st_size

    def close(self) -> None:
        """Closes the descriptors; without its socket the process ends by itself."""
        self.tasks.close()
        self._log.close()
        self._stacks.close()
        if self._exit_pipe >= 0:
            os.close(self._exit_pipe)
            self._exit_pipe = -1
