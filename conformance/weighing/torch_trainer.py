"""Ask a trainer in one rank's process, which torchrun started, and write down what it did.

`python -m conformance.weighing.torch_trainer FOLDER` reads FOLDER/ask.json.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from conformance.core.implementations import adapter, function_of
from conformance.weighing.probe import probe


def train(folder: Path) -> dict[str, Any]:
    """Call the trainer, and return what this rank saw."""
    ask = json.loads((folder / "ask.json").read_text(encoding="utf-8"))
    (declared,) = [each for each in adapter(ask["adapter"]) if each.name == ask["name"]]
    function = function_of(declared)
    kit = probe("torch", loss="next_token", lengths=ask["lengths"])
    torch.manual_seed(0)
    _own_default_group()
    function(kit.model, kit.dataset, ask["batch_size"], ask["accumulate"])
    return kit.record()


def _own_default_group() -> None:
    """Make the default group; a trainer that makes one itself gets its own instead."""
    dist.init_process_group("gloo")
    initialise = dist.init_process_group

    def again(*arguments: Any, **words: Any) -> None:
        dist.init_process_group = initialise
        for module in (dist.distributed_c10d,):
            module.init_process_group = initialise
        dist.destroy_process_group()
        initialise(*arguments, **words)

    dist.init_process_group = dist.distributed_c10d.init_process_group = again


def main() -> None:
    """Train, write the record, and leave without waiting for what the trainer left behind."""
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    status = 0
    try:
        record = train(folder)
    except ModuleNotFoundError as error:
        record, status = {"missing": str(error.name)}, 1
    except (Exception, SystemExit) as error:  # whatever the trainer's own code raises
        traceback.print_exc()
        words = str(error).splitlines()
        record = {"error": f"{type(error).__name__}: {words[0] if words else ''}".rstrip(": ")}
        status = 1
    (folder / f"rank-{rank}.json").write_text(json.dumps(record), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
