"""A process that imports the frameworks once, and forks a rank from that whenever asked.

Importing torch takes seconds, and after a death it would take them again; a fork takes
milliseconds. Forking needs a process of one thread, which no caller can promise of itself: so this
is a process of its own, and it starts no thread. It reaps the ranks too, and tells how each ended.
It ends, with every rank, when its caller does.
"""

import contextlib
import ctypes
import gc
import importlib
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

from conformance.processes import rank_process as child
from conformance.processes import wire
from conformance.processes.fork_request import Birth, End, Request, Signal

_PR_SET_CHILD_SUBREAPER = 36
# A process that was killed and yet stays (in a driver, say) is given up after this many seconds.
_PATIENCE = 5.0


def main(control: int, preload: Sequence[str]) -> NoReturn:
    """Import, then serve until the other end of the control socket closes."""
    for name in preload:
        try:
            importlib.import_module(name)
        except BaseException:  # noqa: BLE001 - the task that needs it will tell it as its own error
            traceback.print_exc()
    sys.argv[:] = [""]
    gc.collect()
    gc.freeze()  # what was imported stays shared between the ranks
    nursery = _Nursery(socket.socket(fileno=control))
    status = 0
    try:
        nursery.serve()
    except (EOFError, ConnectionError):
        pass  # the caller ended
    except BaseException:  # noqa: BLE001 - no memory to fork, say: the caller reads it in the log
        traceback.print_exc()
        status = 1
    nursery.end(nursery.pids())
    os._exit(status)


class _Nursery:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reports: dict[int, int] = {}  # pid → where to tell how it ended
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        if sys.platform == "linux":  # what outlives a rank becomes ours, so that it can be ended
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def pids(self) -> list[int]:
        return list(self._reports)

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            wire.send(self._control, pickle.dumps(os.getpid()))
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
        reply: object = None
        match request:
            case Birth():
                reply = self._bear(request, descriptors)
            case Signal(pids, number):
                for pid in self._reports.keys() & pids:
                    os.kill(pid, number)
            case End(pids):
                self.end(pids)
        wire.send(self._control, pickle.dumps(reply))

    def _bear(self, birth: Birth, descriptors: Sequence[int]) -> int:
        talk, log, stacks, report = descriptors
        nursery = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for held in (self._control, self._woken, self._wake):
                held.close()
            for other in (report, *self._reports.values()):
                os.close(other)
            child.live(birth, child.Descriptors(talk, log, stacks), nursery)
        for passed_on in (talk, log, stacks):
            os.close(passed_on)
        self._reports[pid] = report
        return pid

    def end(self, pids: Sequence[int]) -> None:
        waiting = [pid for pid in pids if pid in self._reports]
        for pid in waiting:
            os.kill(pid, signal.SIGKILL)
        late = time.monotonic() + _PATIENCE
        while self._reap(waiting) and time.monotonic() < late:
            time.sleep(0.001)

    def _reap(self, pids: Sequence[int]) -> bool:
        """Tell of those that ended, and end what they left; whether some still live."""
        alive = ended = False
        for pid in pids:
            if pid not in self._reports:
                continue
            # Look without reaping: until it is reaped its number is nobody else's, so that
            # killing its group cannot hit a stranger.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                alive = True
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            report = self._reports.pop(pid)
            with contextlib.suppress(OSError):
                os.write(report, str(status).encode())
            os.close(report)
            ended = True
        if ended:
            self._end_orphans()
        return alive

    def _end_orphans(self) -> None:
        """End what dead ranks left behind, even where it had made itself a session of its own."""
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
            return pid in self._reports or os.getsid(pid) in self._reports
        return False


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]
    except OSError:  # another system, or a kernel without it: only sessions are ended then
        return []
