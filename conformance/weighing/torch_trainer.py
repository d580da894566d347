"""Ask trainers in one rank's process, which torchrun started, and write down what they did.

`python -m conformance.weighing.torch_trainer FOLDER` reads FOLDER/asks.json. The adapter is
imported once; each question is asked in a process that is forked from there, with a group and a
port of its own.
"""

import faulthandler
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from conformance.core.implementations import adapter, function_of
from conformance.weighing.probe_layout import layout_of
from conformance.weighing.torch_probe import TorchProbe

_POLL, _GRACE = 0.05, 10.0  # seconds; how long a rank may go on after another one failed


def train(function: Callable[..., Any], ask: dict[str, Any]) -> dict[str, Any]:
    """Call a trainer, and return what this rank saw."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ask["port"])}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # whose keys an earlier group has used
    kit = TorchProbe(layout_of("next_token", lengths=ask["lengths"]), "next_token")
    torch.manual_seed(0)
    _own_default_group()
    function(kit.model, kit.dataset, ask["batch_size"], ask["accumulate"])
    return kit.record()


def _own_default_group() -> None:
    """Make the default group; a trainer that makes one itself gets its own instead."""
    initialise = dist.init_process_group
    initialise("gloo")
    dist.barrier()  # so that no rank ends while another one still connects

    def again(*arguments: Any, **words: Any) -> None:
        dist.init_process_group = dist.distributed_c10d.init_process_group = initialise
        dist.destroy_process_group()
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
        initialise(*arguments, **words)

    dist.init_process_group = dist.distributed_c10d.init_process_group = again


def _answer(function: Callable[..., Any], ask: dict[str, Any], file: Path) -> int:
    """Train, write the record, and return the exit status."""
    status = 1
    try:
        record = train(function, ask)
        status = 0
    except ModuleNotFoundError as error:
        record = {"unsupported": f"{error.name} is not installed"}
    except NotImplementedError as error:
        record = {"unsupported": f"not implemented: {error}"}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the trainer raises
        traceback.print_exc()
        words = str(error).splitlines()
        record = {"error": f"{type(error).__name__}: {words[0] if words else ''}".rstrip(": ")}
    _write(file, record)
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _write(file: Path, record: dict[str, Any]) -> None:
    """Write what a rank saw, so that a file that is there is whole."""
    beside = file.with_suffix(".part")
    beside.write_text(json.dumps({**record, "ended": time.time()}), encoding="utf-8")
    beside.rename(file)


def _wait(child: int, number: int, folder: Path, seconds: float) -> None:
    """Wait for a forked process; end it if it is late, or waits for a rank that failed."""
    end = time.monotonic() + seconds
    seen = False
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if not seen and any(_has_failed(file) for file in folder.glob(f"{number}-rank-*.json")):
            seen, end = True, min(end, time.monotonic() + _GRACE)
        if time.monotonic() > end:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(_POLL)


def _has_failed(file: Path) -> bool:
    return "events" not in json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    """Answer every question, and leave without waiting for what the trainers left behind."""
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    words = json.loads((folder / "asks.json").read_text(encoding="utf-8"))
    try:
        functions = {each.name: function_of(each) for each in adapter(words["adapter"])}
    except Exception as error:  # noqa: BLE001 - the adapter's own, in every rank
        for number, _ in enumerate(words["asks"]):
            _write(folder / f"{number}-rank-{rank}.json", {"error": str(error)})
        os._exit(0)
    # An optimizer's first step imports it, which is then done once and not in every process.
    importlib.import_module("torch._dynamo")
    for number, ask in enumerate(words["asks"]):
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            output = os.open(folder / f"{number}.output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            # A trainer that hangs says where, just before it is ended.
            faulthandler.dump_traceback_later(0.9 * words["seconds"])
            file = folder / f"{number}-rank-{rank}.json"
            os._exit(_answer(functions[ask["name"]], ask, file))
        _wait(child, number, folder, words["seconds"])
    os._exit(0)


if __name__ == "__main__":
    main()
