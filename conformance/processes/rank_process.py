"""The life of one rank, in a process just forked: find its place, then answer until told to end."""

import contextlib
import ctypes
import faulthandler
import importlib
import os
import pickle
import signal
import socket
import sys
from dataclasses import dataclass
from typing import NoReturn

from conformance.processes import wire
from conformance.processes.fork_request import Birth
from conformance.processes.rendezvous import Station
from conformance.processes.replies import attempt, packed, resolve

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Descriptors:
    """What a rank is born with.

    Attributes:
        talk: a socket: tasks come in, answers go out.
        log: a file for everything printed.
        stacks: a file for stacks, when it crashes or is asked for one.
    """

    talk: int
    log: int
    stacks: int


def live(birth: Birth, descriptors: Descriptors, nursery: int) -> NoReturn:
    """Be a rank until the other end of the socket closes."""
    status = 70
    try:
        _settle(birth, descriptors, nursery)
        _serve(birth, socket.socket(fileno=descriptors.talk))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        status = 0  # nobody asks any more
    except BaseException as error:  # noqa: BLE001 - the log is the only place left to say it
        said = f"the rank lost its connection: {error!r}"
        with contextlib.suppress(Exception):
            print(said, file=sys.stderr)
        _flush()
    finally:  # whatever happens, nothing of the nursery's own code runs on in this copy of it
        os._exit(status)


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends, whatever ends that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before that
        os._exit(0)


def _settle(birth: Birth, descriptors: Descriptors, nursery: int) -> None:
    os.setsid()  # its own session, so that whatever it starts can be ended with it
    die_with_parent(nursery)
    os.dup2(descriptors.log, 1)
    os.dup2(descriptors.log, 2)
    os.close(descriptors.log)
    faulthandler.enable(descriptors.stacks, all_threads=False)
    faulthandler.register(signal.SIGUSR1, descriptors.stacks, all_threads=True, chain=False)
    os.environ.clear()
    os.environ.update(birth.environment)
    os.chdir(birth.folder)
    sys.path[:] = birth.path
    importlib.invalidate_caches()


def _serve(birth: Birth, talk: socket.socket) -> NoReturn:
    def arrive() -> Station:
        station: Station = resolve(birth.station)(birth.place)
        if birth.prepare is not None:
            resolve(birth.prepare)()
        return station

    me = os.getpid()
    station = attempt(arrive, birth.folder)
    arrived = hasattr(station, "standing")
    wire.send(talk, packed(None if arrived else station, None, birth.folder))
    while True:
        function, size, payload = pickle.loads(wire.receive(talk))

        def task(function: str = function, size: int = size, payload: bytes = payload) -> object:
            return resolve(function)(pickle.loads(payload), station.rank(size))

        value = attempt(task, birth.folder)
        if os.getpid() != me:  # the function forked, and its child came back too: only one answers
            os._exit(0)
        _flush()
        try:
            standing = station.standing(size)
        except Exception:  # noqa: BLE001 - the task may have torn down what it stood on
            standing = None
        wire.send(talk, packed(value, standing, birth.folder))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The task may have closed it, or put anything else in its place.
        with contextlib.suppress(Exception):
            stream.flush()
