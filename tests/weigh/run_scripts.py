"""Weigh many scripts in the same processes: `torchrun … run_scripts.py FOLDER`.

FOLDER holds tasks.json, a list of (script, folder, steps, environment); steps of 0 is without
weighing.
"""

import json
import os
import runpy
import sys
import traceback
from pathlib import Path

import torch.distributed

from conformance.weighing.torch_run import weigh_script


def main() -> None:
    # Once for all: a second group over the keys of a first one in one store may never come up.
    torch.distributed.init_process_group("gloo")
    folder = Path(sys.argv[1])
    for script, out, steps, environment in json.loads((folder / "tasks.json").read_text()):
        os.environ.update(environment, OUT=out)
        try:
            if steps:
                weigh_script(Path(out), steps, script, [], module=False)
            else:
                runpy.run_path(script, run_name="__main__")
        except Exception:  # noqa: BLE001 - the next script is weighed all the same
            (Path(out) / f"failed-{os.environ['RANK']}").write_text(traceback.format_exc())
        for name in environment:
            del os.environ[name]


if __name__ == "__main__":
    main()
    # A script may leave gloo's threads at work, which abort a process that ends in the usual way
    # now and then ("terminate called without an active exception").
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
