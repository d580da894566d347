"""Start a script to be weighed, in a process of its own or W of them, and wait for it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.weighing.records import Step

_STEPS, _STATUS = "steps.jsonl", "rank-*.json"
_POLL, _GRACE = 0.05, 10.0
_START = 300.0  # seconds for an interpreter to import torch on a machine that is busy


@dataclass(frozen=True)
class Ending:
    """How a weighed script ended.

    Attributes:
        steps: that were weighed before.
        status: the script's own exit status: the first that is not 0 of its ranks.
        is_stopped: whether it was stopped because all steps were weighed.
        is_interrupted: by Ctrl-C.
        is_late: whether it was ended because no step came for too long.
        stacks: where each rank was then.
        ranks: what each rank's process wrote at its end.
    """

    steps: Sequence[Step]
    status: int
    is_stopped: bool = False
    is_interrupted: bool = False
    is_late: bool = False
    stacks: Sequence[str] = ()
    ranks: Sequence[dict[str, Any]] = field(default=())


def run(
    folder: Path, ranks: int | None, steps: int, script: Sequence[str], seconds: float
) -> Ending:
    """Run a script and return what was weighed.

    Args:
        folder: empty; what the ranks write.
        ranks: processes that torchrun's agent starts; one of its own where it is None.
        steps: to weigh.
        script: as it stands on the command line: -m and module, or file, and arguments.
        seconds: without a weighed step before the script is ended.
    """
    worker = ["-m", "conformance.weighing.torch_run", str(folder), str(steps), *script]
    environment = dict(os.environ)
    if ranks is not None:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
        agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        worker = [*agent, *worker]
    process = subprocess.Popen([sys.executable, *worker], env=environment)
    is_interrupted = is_late = False
    stacks: list[str] = []
    try:
        is_late = _wait(process, folder, seconds)
        if is_late:
            stacks = _where(folder, process.pid)
            _end(process)
    except KeyboardInterrupt:  # which the script got, too: both are of one terminal
        is_interrupted = True
        _end(process)
    return _ending(folder, process.returncode, is_interrupted, is_late, stacks)


def _wait(process: "subprocess.Popen[bytes]", folder: Path, seconds: float) -> bool:
    """Wait for the end; return whether no step came for too long."""
    seen, since = 0, time.monotonic()
    is_begun = False
    while process.poll() is None:
        time.sleep(_POLL)
        if not is_begun and any(folder.glob("rank-*.pid")):  # torch is imported
            is_begun, since = True, time.monotonic()
        file = folder / _STEPS
        size = file.stat().st_size if file.exists() else 0
        if size != seen:
            seen, since = size, time.monotonic()
        if time.monotonic() - since > (seconds if is_begun else max(seconds, _START)):
            return True
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number, seconds in ((signal.SIGINT, _GRACE), (signal.SIGTERM, _GRACE), (signal.SIGKILL, 5)):
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            process.wait(0.5 if number == signal.SIGINT else 0)
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def _where(folder: Path, parent: int) -> list[str]:
    """Ask every rank for its stack; return the innermost line of each that is not torch's."""
    pids = [int(f.read_text()) for f in sorted(folder.glob("rank-*.pid"))]
    for pid in pids:
        with suppress(ProcessLookupError, AttributeError):
            os.kill(pid, signal.SIGUSR2)
    del parent
    time.sleep(0.5)
    places = []
    for file in sorted(folder.glob("rank-*.stacks")):
        rows = [row.strip() for row in file.read_text(errors="replace").splitlines()]
        frames = [row for row in rows if row.startswith("File ")]
        own = [
            f for f in frames if not any(part in f for part in ("/torch/", "conformance/", "runpy"))
        ]
        if frames:
            rank = file.name.split("-")[1].split(".")[0]
            places.append(f"rank {rank} is at {(own or frames)[0].removeprefix('File ')}")
    return places


def _ending(
    folder: Path, returned: int, is_interrupted: bool, is_late: bool, stacks: Sequence[str]
) -> Ending:
    told = [json.loads(f.read_text(encoding="utf-8")) for f in sorted(folder.glob(_STATUS))]
    statuses = [one["status"] for one in told if one["status"]]
    status = statuses[0] if statuses else returned
    return Ending(
        steps=read_steps(folder),
        status=128 - status if status < 0 else status,
        is_stopped=bool(told) and all(one["ending"] == "stopped" for one in told),
        is_interrupted=is_interrupted or any(one["ending"] == "interrupted" for one in told),
        is_late=is_late,
        stacks=stacks,
        ranks=told,
    )


def read_steps(folder: Path) -> list[Step]:
    """Return the steps that rank 0 wrote; a line that was cut short is left out."""
    file = folder / _STEPS
    steps: list[Step] = []
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                steps.append(Step.from_json(json.loads(line)))
    return steps
