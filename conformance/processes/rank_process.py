"""Runs one rank in a process just forked: joins its peers, then answers tasks until told to end."""

import contextlib
import ctypes
import faulthandler
import importlib
import os
import pickle
import signal
import socket
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from conformance.processes import wire
from conformance.processes.fork_request import NOWHERE, ForkRequest
from conformance.processes.replies import Reply, attempt, encoded, resolve
from conformance.processes.task import Rendezvous

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Descriptors:
    """The open files that a rank is forked with.

    Attributes:
        tasks: a socket: tasks come in, replies go out.
        log: a file for everything printed.
        stacks: a file for stacks, when the rank crashes or is signalled for one.
    """

    tasks: int
    log: int
    stacks: int


def run(request: ForkRequest, descriptors: Descriptors, server: int) -> NoReturn:
    """Answers tasks until the other end of the socket closes."""
    status = 70
    try:
        _set_up(request, descriptors, server)
        _serve(request, socket.socket(fileno=descriptors.tasks))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        status = 0  # The caller asks no more.
    except BaseException as error:  # noqa: BLE001 - the log is the only place left to say it
        message = f"the rank lost its connection: {error!r}"
        with contextlib.suppress(Exception):
            print(message, file=sys.stderr)
        _flush()
    finally:  # Whatever happens, none of the server's own code runs on in this copy of it.
        os._exit(status)


def die_with_parent(parent: int) -> None:
    """Lets the kernel kill this process when its parent ends, whatever ends the parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # The parent ended before that.
        os._exit(0)


def _set_up(request: ForkRequest, descriptors: Descriptors, server: int) -> None:
    # A session of its own, so that whatever the rank starts can be killed with it.
    os.setsid()
    die_with_parent(server)
    os.dup2(descriptors.log, 1)
    os.dup2(descriptors.log, 2)
    os.close(descriptors.log)
    with contextlib.suppress(OSError):
        # Where memory runs out, the kernel ends a rank, and not the process that judges.
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    faulthandler.enable(descriptors.stacks, all_threads=False)
    faulthandler.register(signal.SIGUSR1, descriptors.stacks, all_threads=True, chain=False)
    os.environ.clear()
    os.environ.update(request.environment)
    try:
        os.chdir(request.folder)
    except FileNotFoundError:
        # Code under test removed it, and others are asked all the same.
        with contextlib.suppress(OSError):
            os.chdir(NOWHERE)
    sys.path[:] = request.path
    importlib.invalidate_caches()


def _serve(request: ForkRequest, tasks: socket.socket) -> NoReturn:
    def join() -> Rendezvous:
        rendezvous: Rendezvous = resolve(request.rendezvous)(request.address)
        if request.prepare is not None:
            resolve(request.prepare)()
        return rendezvous

    own_pid = os.getpid()
    rendezvous = attempt(join, request.folder)
    has_joined = hasattr(rendezvous, "sync_state")
    joined = Reply(None if has_joined else rendezvous)
    wire.send_reply(tasks, request.token, encoded(joined, request.folder, 0))
    while True:
        token, function, size, limit, payload = pickle.loads(wire.receive(tasks))
        changes: list[str] = []

        def task(
            function: str = function,
            size: int = size,
            payload: bytes = payload,
            changes: list[str] = changes,
        ) -> object:
            rank = replace(rendezvous.rank(size), changes=changes)
            return resolve(function)(pickle.loads(payload), rank)

        value = attempt(task, request.folder)
        if os.getpid() != own_pid:  # The function forked and its child returned too.
            os._exit(0)
        _flush()
        try:
            sync_state = rendezvous.sync_state(size)
        except Exception:  # noqa: BLE001 - the task may have torn its groups down
            sync_state = None
        reply = Reply(value, sync_state, tuple(changes))
        wire.send_reply(tasks, token, encoded(reply, request.folder, limit))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The task may have closed the stream, or put anything else in its place.
        with contextlib.suppress(Exception):
            stream.flush()
