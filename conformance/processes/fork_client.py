"""The nurseries of this process: one for each list of imports, shared by every world and thread."""

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

from conformance.processes import exit_reasons as fates
from conformance.processes import wire
from conformance.processes.fork_request import Birth, End, Request, Signal

# The path comes first: the suite itself may only be found through it.
_BOOT = """\
import json, sys
control, sys.path[:], preload = map(json.loads, sys.argv[1:])
from conformance.processes.fork_server import main
main(control, preload)
"""
_Key = tuple[tuple[str, ...], tuple[tuple[str, str], ...]]


class NurseryDiedError(Exception):
    """The process that imports the frameworks ended; the message says how."""


class Nursery:
    """A nursery as its caller sees it; any thread may ask."""

    def __init__(self, preload: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process; its imports go on in the background.

        Args:
            preload: the modules to import.
            environment: all its environment variables.
        """
        self._preload = tuple(preload)
        self._lock = threading.Lock()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in end()
        self._control, theirs = socket.socketpair()
        arguments = [
            json.dumps(part) for part in (theirs.fileno(), [*map(str, sys.path)], self._preload)
        ]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, *arguments],
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,  # Ctrl-C is for the caller alone
            )
        self._is_ready = False

    def is_alive(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None and self._control.fileno() >= 0

    def bear(self, birth: Birth, descriptors: Sequence[int]) -> int:
        """Fork a rank; its process id.

        Args:
            birth: what it is to be.
            descriptors: its socket, log and stacks, and where the nursery tells how it ended.

        Raises:
            NurseryDiedError: if there is no nursery any more.
        """
        pid = self._ask(birth, descriptors)
        assert isinstance(pid, int)
        return pid

    def signal(self, pids: Sequence[int], number: int) -> None:
        """Signal those that still live."""
        with contextlib.suppress(NurseryDiedError):
            self._ask(Signal(pids, number))

    def end_ranks(self, pids: Sequence[int]) -> None:
        """End ranks and all that they started; they are gone when this returns."""
        with contextlib.suppress(NurseryDiedError):
            self._ask(End(pids))

    def end(self) -> None:
        """End the nursery and every rank of it."""
        wire.close_quietly(self._control)
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:  # still importing
            self._process.kill()
            self._process.wait()
        self._log.close()

    def forget(self) -> None:
        """Drop this process's copy of the socket: it was forked, and the nursery is not its own."""
        self._control.close()
        self._process.returncode = 0  # it is no child of this process; waiting for it would fail

    def _ask(self, request: Request, descriptors: Sequence[int] = ()) -> Any:
        with self._lock:
            try:
                if not self._is_ready:
                    wire.receive(self._control)
                    self._is_ready = True
                wire.send_with_descriptors(self._control, pickle.dumps(request), descriptors)
                return pickle.loads(wire.receive(self._control))
            except (OSError, EOFError) as gone:
                raise NurseryDiedError(self._obituary()) from gone
            except BaseException:  # Ctrl-C: its reply would be taken for that to the next request
                wire.close_quietly(self._control)
                raise

    def _obituary(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        status = self._process.returncode
        how = "was closed" if status in (None, 0) else f"died: {fates.ending(status)}"
        with contextlib.suppress(OSError, ValueError):
            how += fates.last_words(self._log.fileno(), 0)
        return f"the process that imports {', '.join(self._preload) or 'nothing'} {how}"


_nurseries: dict[_Key, Nursery] = {}
_lock = threading.Lock()


def nursery_for(
    preload: Sequence[str], overrides: Mapping[str, str], environment: Mapping[str, str]
) -> Nursery:
    """The nursery with these imports; a new one if there was none or it died.

    Args:
        preload: the modules it has imported.
        overrides: the variables in which its environment is meant to differ from this process's:
            frameworks read some of them while being imported.
        environment: all its environment variables, if it is to be started.
    """
    key = (tuple(preload), tuple(sorted(overrides.items())))
    with _lock:
        nursery = _nurseries.get(key)
        if nursery is None or not nursery.is_alive():
            if nursery is not None:
                nursery.end()
            nursery = _nurseries[key] = Nursery(preload, environment)
        return nursery


@atexit.register
def end_all() -> None:
    """End every nursery of this process."""
    with _lock:
        while _nurseries:
            _nurseries.popitem()[1].end()


def _forget_all() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held it when this process was forked
    _lock = threading.Lock()
    while _nurseries:
        _nurseries.popitem()[1].forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
