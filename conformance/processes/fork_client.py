"""The fork servers of this process: one for each list of imports, shared by worlds and threads."""

import atexit
import contextlib
import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from conformance.processes import exit_reasons, wire
from conformance.processes.fork_request import ForkRequest, KillRequest, Request, SignalRequest

# `sys.path` is set first: the suite itself may only be found through it.
_BOOT = """\
import json, sys
control, sys.path[:], preload = map(json.loads, sys.argv[1:])
from conformance.processes.fork_server import main
main(control, preload)
"""
_Key = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]


class ForkServerDiedError(Exception):
    """The process that imports the frameworks ended; the message says how."""


class ForkClient:
    """A fork server as its caller sees it; any thread may ask."""

    def __init__(self, preload: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts the server; its imports go on in the background.

        Args:
            preload: the modules to import.
            environment: all its environment variables.
        """
        self._preload = tuple(preload)
        self._lock = threading.Lock()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in end()
        self._control, server_end = socket.socketpair()
        arguments = [
            json.dumps(part) for part in (server_end.fileno(), [*map(str, sys.path)], self._preload)
        ]
        with server_end:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, *arguments],
                env=dict(environment),
                pass_fds=[server_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is for the caller alone
            )
        self._is_ready = False

    def is_alive(self) -> bool:
        """Says whether the server can still be asked."""
        return self._process.poll() is None and self._control.fileno() >= 0

    def fork(self, request: ForkRequest, descriptors: Sequence[int]) -> int:
        """Forks a rank and returns its process id.

        Args:
            request: what the rank is to be.
            descriptors: its socket, log and stack file, and the pipe for its exit status.

        Raises:
            ForkServerDiedError: if there is no server any more.
        """
        pid = self._ask(request, descriptors)
        assert isinstance(pid, int)
        return pid

    def signal(self, pids: Sequence[int], number: int) -> None:
        """Signals the ranks among these that still live."""
        with contextlib.suppress(ForkServerDiedError):
            self._ask(SignalRequest(pids, number))

    def kill_ranks(self, pids: Sequence[int]) -> None:
        """Kills ranks and all that they started; they are gone when this returns."""
        with contextlib.suppress(ForkServerDiedError):
            self._ask(KillRequest(pids))

    def end(self) -> None:
        """Ends the server and every rank of it."""
        wire.close_quietly(self._control)
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:  # It is still importing.
            self._process.kill()
            self._process.wait()
        self._log.close()

    def disown(self) -> None:
        """Drops this process's copy of the socket: a forked process does not own the server."""
        self._control.close()
        self._process.returncode = 0  # Waiting for it would fail: it is no child of this process.

    def _ask(self, request: Request, descriptors: Sequence[int] = ()) -> Any:
        with self._lock:
            try:
                if not self._is_ready:
                    wire.receive(self._control)
                    self._is_ready = True
                wire.send_with_descriptors(self._control, pickle.dumps(request), descriptors)
                return pickle.loads(wire.receive(self._control))
            except (OSError, EOFError) as error:
                raise ForkServerDiedError(self._cause_of_death()) from error
            except BaseException:
                # After Ctrl-C the reply would be taken for the reply to the next request.
                wire.close_quietly(self._control)
                raise

    def _cause_of_death(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        status = self._process.returncode
        cause = "was closed" if status in (None, 0) else f"died: {exit_reasons.exit_reason(status)}"
        with contextlib.suppress(OSError, ValueError):
            cause += exit_reasons.last_output(self._log.fileno(), 0)
        return f"the process that imports {', '.join(self._preload) or 'nothing'} {cause}"


_clients: dict[_Key, ForkClient] = {}
_lock = threading.Lock()


def fork_client_for(
    preload: Sequence[str], overrides: Mapping[str, str], environment: Mapping[str, str]
) -> ForkClient:
    """Returns the fork server with these imports; a new one if there was none or it died.

    Args:
        preload: the modules it has imported.
        overrides: the variables in which its environment is meant to differ from this process's:
            frameworks read some of them while being imported.
        environment: all its environment variables, if it is to be started.
    """
    key = (tuple(preload), tuple(sorted(overrides.items())))
    with _lock:
        client = _clients.get(key)
        if client is None or not client.is_alive():
            if client is not None:
                client.end()
            client = _clients[key] = ForkClient(preload, environment)
        return client


@atexit.register
def end_all() -> None:
    """Ends every fork server of this process."""
    with _lock:
        while _clients:
            _clients.popitem()[1].end()


def _disown_all() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it when this process was forked
    _lock = threading.Lock()
    while _clients:
        _clients.popitem()[1].disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
