"""What a fork server is asked to do: plain data, since it crosses a socket."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A folder in which no code can remove or write anything. One that is really there would be lost to
# code under test that removes its working folder in each of its processes.
NOWHERE = "/proc"


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # Code under test may have removed it.
        return NOWHERE


@dataclass(frozen=True)
class ForkRequest:
    """A process to be forked.

    Attributes:
        index: its rank.
        rendezvous: "package.module:name" of the class that joins the process to its peers, called
            once with `address`; see `task.Rendezvous`.
        address: what the rendezvous needs to know: addresses, folders, sizes.
        prepare: "package.module:name" of a function to call before the first task, or None.
        environment: the environment variables, all of them.
        token: what its first reply begins with.
        path: `sys.path`.
        folder: the working folder.
    """

    index: int
    rendezvous: str
    address: Any
    prepare: str | None
    environment: Mapping[str, str]
    token: bytes
    path: Sequence[str] = field(default_factory=lambda: tuple(map(str, sys.path)))
    folder: str = field(default_factory=_working_folder)


@dataclass(frozen=True)
class SignalRequest:
    """A signal to send to the processes among these that still live."""

    pids: Sequence[int]
    number: int


@dataclass(frozen=True)
class KillRequest:
    """Processes to kill, with everything that they started."""

    pids: Sequence[int]


@dataclass(frozen=True)
class NestRequest:
    """A fork server to be forked from this one, for ranks that must not harm those of another.

    Attributes:
        preload: modules that it imports beside those that this one has imported.
    """

    preload: Sequence[str] = ()


Request = ForkRequest | NestRequest | SignalRequest | KillRequest

# Many ranks share few cores, and sums would depend on the number of threads: so each has one.
_SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def environment_for(overrides: Mapping[str, str]) -> dict[str, str]:
    """Returns this process's environment, with one thread for each rank, unless overridden."""
    flags = f"{_XLA_FLAGS} {os.environ.get('XLA_FLAGS', '')}".rstrip()
    return {**os.environ, **_SINGLE_THREADED, "XLA_FLAGS": flags, **overrides}
