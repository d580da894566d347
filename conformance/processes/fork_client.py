"""The fork servers of this process: one for each list of imports, shared by worlds and threads."""

import atexit
import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import conformance
from conformance.core.interrupts import SIGNALS, handled
from conformance.processes import exit_reasons, wire
from conformance.processes.fork_request import (
    ForkRequest,
    KillRequest,
    NestRequest,
    Request,
    SignalRequest,
)
from conformance.processes.temp_folders import nameless_file

# `sys.path` is set first, since what the suite needs may only be found through it. The suite itself
# is found by its place: a package of the same name may come before it on that path.
_BOOT = """\
import importlib.util, json, sys
control, sys.path[:], preload, suite = map(json.loads, sys.argv[1:])
spec = importlib.util.spec_from_file_location("conformance", suite)
sys.modules["conformance"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from conformance.processes.fork_server import main
main(control, preload)
"""
_Key = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]
# Imports may take this many seconds on a slow and busy machine; a fork takes milliseconds.
_IMPORT_LIMIT, _ANSWER_LIMIT = 300.0, 30.0
_STOPPED_EVERY = 0.5  # seconds between two looks whether a server that is waited for was stopped


class ForkServerDiedError(Exception):
    """The process that imports the frameworks ended; the message says how."""


class _Process(Protocol):
    """A fork server's process, as `subprocess.Popen` has it."""

    pid: int
    returncode: int | Any

    def poll(self) -> int | None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class ForkClient:
    """A fork server as its caller sees it; any thread may ask."""

    def __init__(
        self, name: str, process: _Process, control: socket.socket, log: IO[bytes]
    ) -> None:
        """Takes over a server that was just started.

        Args:
            name: what it imports, in words.
            process: its process.
            control: the socket by which it is asked.
            log: the file to which it prints.
        """
        self._name, self._process, self._control, self._log = name, process, control, log
        self._lock = threading.Lock()
        self._is_ready = False

    @classmethod
    def started(cls, preload: Sequence[str], environment: Mapping[str, str]) -> "ForkClient":
        """Starts a server; its imports go on in the background.

        Args:
            preload: the modules to import.
            environment: all its environment variables.
        """
        log = nameless_file()
        control, server_end = socket.socketpair()
        arguments = [
            json.dumps(part)
            for part in (
                server_end.fileno(),
                [*map(str, sys.path)],
                preload,
                conformance.__file__,
            )
        ]
        with server_end:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, *arguments],
                env=dict(environment),
                pass_fds=[server_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the caller alone
            )
        return cls(", ".join(preload) or "nothing", process, control, log)

    def nested(self, preload: Sequence[str] = ()) -> "ForkClient":
        """Forks the server itself, in milliseconds: what befalls the copy costs no other world.

        Args:
            preload: modules that the copy imports besides, in the background.

        Raises:
            ForkServerDiedError: if there is no server any more.
        """
        log = nameless_file()
        control, server_end = socket.socketpair()
        exit_pipe, nested_end = os.pipe()
        try:
            descriptors = [server_end.fileno(), log.fileno(), nested_end]
            pid = self._ask(NestRequest(preload), descriptors)
        except BaseException:
            os.close(exit_pipe)
            control.close()
            log.close()
            raise
        finally:
            server_end.close()
            os.close(nested_end)
        name = ", ".join([self._name, *preload])
        return ForkClient(name, _Nested(pid, exit_pipe, self), control, log)

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
            self._process.wait(timeout=0.0 if _is_stopped(self._process.pid) else 2.0)
        except subprocess.TimeoutExpired:  # It is still importing, or was stopped.
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
                    self._wait_for_answer(_IMPORT_LIMIT)
                    wire.receive(self._control)
                    self._is_ready = True
                wire.send_with_descriptors(self._control, pickle.dumps(request), descriptors)
                self._wait_for_answer(_ANSWER_LIMIT)
                return json.loads(wire.receive(self._control))
            except (OSError, EOFError) as error:
                raise ForkServerDiedError(self._cause_of_death(error)) from error
            except BaseException:
                # After Ctrl-C the reply would be taken for the reply to the next request.
                wire.close_quietly(self._control)
                raise

    def _wait_for_answer(self, limit: float) -> None:
        """Waits until the server answers or ends; kills one that was stopped or is too late."""
        if self._control.fileno() < 0:
            raise EOFError
        deadline = time.monotonic() + limit
        while not wire.is_readable(self._control.fileno(), _STOPPED_EVERY):
            if time.monotonic() < deadline and not _is_stopped(self._process.pid):
                continue
            reason = "was stopped" if _is_stopped(self._process.pid) else "gave no answer"
            self._process.kill()
            wire.close_quietly(self._control)
            raise TimeoutError(reason)

    def _cause_of_death(self, error: Exception) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        status = self._process.returncode
        if isinstance(error, TimeoutError):
            cause = f"{error} and was killed"
        elif status in (None, 0):
            cause = "was closed"
        else:
            cause = f"died: {exit_reasons.exit_reason(status)}"
        with contextlib.suppress(OSError, ValueError):
            cause += exit_reasons.last_output(self._log.fileno(), 0)
        return f"the process that imports {self._name} {cause}"


class _Nested:
    """A server that another server forked, which alone can wait for it."""

    def __init__(self, pid: int, exit_pipe: int, parent: ForkClient) -> None:
        self.pid, self._exit_pipe, self._parent = pid, exit_pipe, parent
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and wire.is_readable(self._exit_pipe):
            status = os.read(self._exit_pipe, 16)
            os.close(self._exit_pipe)
            self.returncode = int(status or 0)
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            self._parent.kill_ranks([self.pid])

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not wire.is_readable(self._exit_pipe, timeout):
            raise subprocess.TimeoutExpired("fork server", timeout or 0.0)
        status = self.poll()
        assert status is not None
        return status


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(OSError):  # Without /proc only the deadline counts.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    return False


_clients: dict[_Key, ForkClient] = {}
_lock = threading.Lock()


def fork_client_for(
    preload: Sequence[str], overrides: Mapping[str, str], environment: Mapping[str, str]
) -> ForkClient:
    """Returns the fork server with these imports; a new one if there was none or it died.

    It is forked from one whose imports these begin with, if there is one: what takes seconds is
    imported once.

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
            client = _clients[key] = _extended(key) or ForkClient.started(preload, environment)
        return client


def _extended(key: _Key) -> ForkClient | None:
    """Forks the server that has imported most of what this key begins with, if there is one."""
    preload, overrides = key
    bases = [
        (len(other), client)
        for (other, others_overrides), client in _clients.items()
        if others_overrides == overrides
        and 0 < len(other) < len(preload)
        and preload[: len(other)] == other
        and client.is_alive()
    ]
    if not bases:
        return None
    imported, base = max(bases, key=lambda each: each[0])
    with contextlib.suppress(ForkServerDiedError):  # Then this one is started by itself.
        return base.nested(preload[imported:])
    return None


@atexit.register
def end_all() -> None:
    """Ends every fork server of this process; who presses Ctrl-C again waits these moments."""
    with handled(lambda *_: None, (signal.SIGINT, *SIGNALS)), _lock:
        while _clients:
            _clients.popitem()[1].end()


def _disown_all() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it when this process was forked
    _lock = threading.Lock()
    while _clients:
        _clients.popitem()[1].disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
