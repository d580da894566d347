"""Weigh many scripts in the processes of one torchrun."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(folder, world, tasks):
    (folder / "tasks.json").write_text(json.dumps(tasks))
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    done = subprocess.run(
        [sys.executable, *agent, str(HERE / "run_scripts.py"), str(folder)],
        capture_output=True, text=True, timeout=560,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def task(folder, name, text, steps, environment):
    out = folder / name
    out.mkdir()
    (out / "train.py").write_text(text)
    return str(out / "train.py"), str(out), steps, {"STEPS": "5", **environment}
