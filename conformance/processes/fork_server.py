"""Serves forks: imports the frameworks once, and forks a rank from that state whenever asked.

Importing torch takes seconds, and after a death it would take them again; a fork takes
milliseconds. Forking is safe in a process of one thread, which no caller can promise of itself: so
the server is a process of its own, and it starts no thread. The server also reaps the ranks and
reports how each ended. It ends, with every rank, when its caller does.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pickle
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from conformance.core import temporary
from conformance.processes import rank_process, wire
from conformance.processes.fork_request import (
    ForkRequest,
    KillRequest,
    NestRequest,
    Request,
    SignalRequest,
)

_PR_SET_CHILD_SUBREAPER = 36
# A killed process can stay (in a driver, say): after this many seconds nobody waits for it.
_PATIENCE = 5.0


def main(control: int, preload: Sequence[str]) -> NoReturn:
    """Imports, then serves until the other end of the control socket closes."""
    temporary.choose()
    _import(preload)
    sys.argv[:] = [""]
    _serve(control)


def _import(preload: Sequence[str]) -> None:
    for name in preload:
        try:
            importlib.import_module(name)
        except BaseException:  # noqa: BLE001 - the task that needs the module fails by itself
            traceback.print_exc()
    gc.collect()
    gc.freeze()  # The memory of the imports stays shared between the ranks.


def _serve(control: int) -> NoReturn:
    server = _ForkServer(socket.socket(fileno=control))
    status = 0
    try:
        server.serve()
    except (EOFError, ConnectionError):
        pass  # The caller ended.
    except BaseException:  # noqa: BLE001 - the caller reads it in the log: no memory to fork, say
        traceback.print_exc()
        status = 1
    server.kill(server.pids())
    os._exit(status)


class _ForkServer:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._exit_pipes: dict[int, int] = {}  # process id → the pipe for its exit status
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        if sys.platform == "linux":
            # A process that outlives its rank becomes a child of the server, which can kill it.
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def pids(self) -> list[int]:
        return list(self._exit_pipes)

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            wire.send(self._control, b"ready")
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        with contextlib.suppress(BlockingIOError):
                            self._woken.recv(4096)
                        self._reap(self.pids())
                    else:
                        self._answer()

    def _answer(self) -> None:
        body, descriptors = wire.receive_with_descriptors(self._control, 4)
        request: Request = pickle.loads(body)
        reply: int | None = None
        match request:
            case ForkRequest():
                reply = self._fork(request, descriptors)
            case NestRequest(preload):
                reply = self._nest(preload, descriptors)
            case SignalRequest(pids, number):
                for pid in self._exit_pipes.keys() & pids:
                    os.kill(pid, number)
            case KillRequest(pids):
                self.kill(pids)
        wire.send(self._control, json.dumps(reply).encode())

    def _fork(self, request: ForkRequest, descriptors: Sequence[int]) -> int:
        *files, exit_pipe = descriptors
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._leave(exit_pipe)
            rank_process.run(request, rank_process.Descriptors(*files), server)
        return self._adopt(pid, files, exit_pipe)

    def _nest(self, preload: Sequence[str], descriptors: Sequence[int]) -> int:
        control, log, exit_pipe = descriptors
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._leave(exit_pipe)
                os.setsid()
                rank_process.die_with_parent(server)
                os.dup2(log, 1)
                os.dup2(log, 2)
                os.close(log)
                if preload:
                    _import(preload)
                _serve(control)
            finally:  # None of the other server's code may run on in this copy of it.
                os._exit(1)
        return self._adopt(pid, (control, log), exit_pipe)

    def _leave(self, exit_pipe: int) -> None:
        """Closes what belongs to the server, in a process that was just forked from it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for server_socket in (self._control, self._woken, self._wake):
            server_socket.close()
        for other in (exit_pipe, *self._exit_pipes.values()):
            os.close(other)

    def _adopt(self, pid: int, files: Sequence[int], exit_pipe: int) -> int:
        for descriptor in files:
            os.close(descriptor)
        self._exit_pipes[pid] = exit_pipe
        return pid

    def kill(self, pids: Sequence[int]) -> None:
        waiting = [pid for pid in pids if pid in self._exit_pipes]
        for pid in waiting:
            os.kill(pid, signal.SIGKILL)
        late = time.monotonic() + _PATIENCE
        while self._reap(waiting) and time.monotonic() < late:
            time.sleep(0.001)

    def _reap(self, pids: Sequence[int]) -> bool:
        """Reports the ranks that ended and kills their processes; says whether some still live."""
        alive = ended = False
        for pid in pids:
            if pid not in self._exit_pipes:
                continue
            # Waiting without reaping keeps the process id taken, so that killing the group of
            # that id cannot hit a stranger.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                alive = True
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            exit_pipe = self._exit_pipes.pop(pid)
            with contextlib.suppress(OSError):
                os.write(exit_pipe, str(status).encode())
            os.close(exit_pipe)
            ended = True
        if ended:
            self._end_orphans()
        return alive

    def _end_orphans(self) -> None:
        """Kills what dead ranks left behind, even in sessions of its own."""
        late = time.monotonic() + _PATIENCE
        while time.monotonic() < late:
            orphans = [pid for pid in _children() if not self._is_of_a_rank(pid)]
            if not orphans:
                return
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.001)

    def _is_of_a_rank(self, pid: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            return pid in self._exit_pipes or os.getsid(pid) in self._exit_pipes
        return False


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]
    except OSError:  # Without this file, on other systems, only sessions are killed.
        return []
