"""A check in processes of its own, started for it and ended after it, as most suites do."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from conformance.core.outcomes import UsageError
from conformance.processes.fork_request import environment_for
from conformance.processes.temp_folders import new_folder

LIMIT = 300.0
_STEP = 0.005
_LAST = 300  # characters of what a failed rank wrote


def check(number: int, size: int) -> np.ndarray:
    """The gradient that rank 0 gives.

    Args:
        number: which check.
        size: how many ranks.

    Raises:
        UsageError: if a rank fails or is late.
    """
    folder = new_folder("bench")
    try:
        with Path(folder, "log").open("wb") as log:
            _run_all([_command(folder, index, size, number) for index in range(size)], log.fileno())
        return np.load(folder / "gradient-0.npy")
    except _FailedError as failed:
        said = (folder / "log").read_text(errors="replace").strip()[-_LAST:]
        raise UsageError(f"bench worlds: a fresh rank {failed}: {said}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _FailedError(Exception):
    """How a rank failed."""


def _command(folder: Path, index: int, size: int, number: int) -> list[str]:
    module = "conformance.bench.fresh_rank"
    return [
        sys.executable,
        "-m",
        module,
        str(folder),
        *map(str, (os.getpid(), index, size, number)),
    ]


def _run_all(commands: Sequence[Sequence[str]], log: int) -> None:
    path = os.pathsep.join(path for path in sys.path if path)
    environment = environment_for({"PYTHONPATH": path})
    if sys.platform == "linux":  # elsewhere gloo listens where the machine's name leads
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            ranks.append(  # noqa: PERF401 - those started so far must be ended, whatever happens
                subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for this process, which ends them
                )
            )
        _wait(ranks)
    finally:
        for rank in ranks:
            rank.kill()
        for rank in ranks:
            rank.wait()


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    late = time.monotonic() + LIMIT
    while any(rank.poll() is None for rank in ranks):
        if any(rank.returncode for rank in ranks):
            break  # the others would wait for it
        if time.monotonic() > late:
            raise _FailedError(f"gave no answer in {LIMIT:g} s")
        time.sleep(_STEP)
    for rank in ranks:
        if rank.returncode:
            raise _FailedError(f"ended with status {rank.returncode}")
