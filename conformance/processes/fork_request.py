"""What a nursery is asked for: plain data, since it crosses a socket."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Birth:
    """A process to be forked.

    Attributes:
        index: its rank.
        station: "package.module:name" of what gives the process its place among the ranks, called
            once with `place`; see `station.py`.
        place: what the station needs to know: addresses, folders, sizes.
        prepare: "package.module:name" of a function to call before the first task, or None.
        environment: the environment variables, all of them.
        path: `sys.path`.
        folder: the working folder.
    """

    index: int
    station: str
    place: Any
    prepare: str | None
    environment: Mapping[str, str]
    path: Sequence[str] = field(default_factory=lambda: tuple(map(str, sys.path)))
    folder: str = field(default_factory=lambda: str(Path.cwd()))


@dataclass(frozen=True)
class Signal:
    """A signal to send to those of these processes that still live."""

    pids: Sequence[int]
    number: int


@dataclass(frozen=True)
class End:
    """Processes to end, with everything that they started."""

    pids: Sequence[int]


Request = Birth | Signal | End

# One thread each: many ranks share few cores, and threads would make sums depend on their number.
_SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def environment_for(overrides: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, with one thread for each rank, unless overridden."""
    flags = f"{_XLA_FLAGS} {os.environ.get('XLA_FLAGS', '')}".rstrip()
    return {**os.environ, **_SINGLE_THREADED, "XLA_FLAGS": flags, **overrides}
