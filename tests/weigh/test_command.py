# ruff: noqa: ISC004 - bodies of scripts are long
"""The command as users call it: a clear line for all that a script does, and its exit status.

What a script does within its process is weighed here in one process for all, as `conformance weigh`
would start it; what concerns processes goes through the command line.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance.weighing.diagnosis import judge
from conformance.weighing.launch import Ending, read_steps
from conformance.weighing.text import lines, why_nothing

HEAD = """\
import os, sys, torch
import torch.nn.functional as F
torch.manual_seed(0)
model = torch.nn.Linear(6, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def loss():
    return F.cross_entropy(model(torch.randn(5, 6)), torch.randint(0, 3, (5,)))
def train(steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
"""
SCRIPTS = {
    "never steps": ("loss().backward()", 0, "ended without a step of a torch optimizer"),
    "no backward": ("optimizer.step()", 0, "no backward pass reached the optimizer's parameters"),
    "exits": ("train(1); sys.exit(7)", 7, "ended by itself with exit status 7; 1 step was weighed"),
    "raises": ("train(1); raise RuntimeError('mine')", 1, "ended by itself with exit status 1"),
    "out of memory": ("raise MemoryError('too much')", 1, "nothing was weighed before"),
    "out of a device's memory": (
        "train(1); raise torch.OutOfMemoryError('tried to allocate 2 GiB')",
        1, "exit status 1; 1 step was weighed before",
    ),
    "exits with words": ("sys.exit('no data')", 1, "exit status 1; nothing was weighed before"),
    "is no Python": ("def f(:", 1, "ended by itself with exit status 1; nothing was weighed"),
    "catches everything": (
        "try:\n    train(9)\nexcept:\n    pass", 0, "step_mean: 1/N",
    ),
    "frees its graph": ("x = loss(); x.backward(); x.backward()", 1, "exit status 1"),
    "gradient is NaN": ("(loss() * float('nan')).backward(); optimizer.step()", 0, "is not finite"),
    "outside autograd": (
        "for p in model.parameters(): p.grad = torch.ones_like(p)\noptimizer.step()",
        0, "no backward pass reached",
    ),
    "changes argv and folder": (
        "sys.argv = ['x']; os.chdir('/'); train()", 0, "step_mean: 1/N",
    ),
    "one closure": (
        "def closure():\n    optimizer.zero_grad(); x = loss(); x.backward(); return x\n"
        "for _ in range(3): optimizer.step(closure)",
        0, "step_mean: 1/N",
    ),
    "LBFGS": (
        "optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)\n"
        "x, y = torch.randn(5, 6), torch.randint(0, 3, (5,))\n"
        "def closure():\n    optimizer.zero_grad()\n    l = F.cross_entropy(model(x), y)\n"
        "    l.backward()\n"
        "    return l\nfor _ in range(3): optimizer.step(closure)",
        0, "step_mean: 1/N",
    ),
    "two optimizers": (
        "other = torch.nn.Linear(6, 3)\nsecond = torch.optim.AdamW(other.parameters())\n"
        "for _ in range(3):\n    x = torch.randn(4, 6)\n    y = torch.randint(0, 3, (4,))\n"
        "    optimizer.zero_grad(); F.cross_entropy(model(x), y).backward(); optimizer.step()\n"
        "    second.zero_grad(); F.cross_entropy(model(x) + other(x), y).backward()\n"
        "    second.step()\n",
        0, "AdamW 2: step_mean: 1/N",
    ),
    "compiled": (
        "fast = torch.compile(model, backend='aot_eager')\nfor _ in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    F.cross_entropy(fast(torch.randn(5, 6)), torch.randint(0, 3, (5,))).backward()\n"
        "    optimizer.step()",
        0, "step_mean: 1/N",
    ),
    "checkpointed": (
        "from torch.utils.checkpoint import checkpoint\nfor _ in range(3):\n"
        "    optimizer.zero_grad()\n    x = torch.randn(5, 6, requires_grad=True)\n"
        "    out = checkpoint(model, x, use_reentrant=_ == 0)\n"
        "    F.cross_entropy(out, torch.randint(0, 3, (5,))).backward()\n    optimizer.step()",
        0, "step_mean: 1/N",
    ),
    "one device's DataParallel": (
        "model = torch.nn.DataParallel(model); train()", 0, "step_mean: 1/N",
    ),
    "noise": (
        "loss().backward()\nfor p in model.parameters(): p.grad += torch.randn_like(p)\n"
        "optimizer.step()",
        0, "– step 1 of train.py on 1 rank: not-exercised: no-weighted-sum",
    ),
    "a decay of weights by hand": (
        "loss().backward()\nfor p in model.parameters(): p.grad.add_(p.detach(), alpha=0.1)\n"
        "optimizer.step()",
        0, "– step 1 of train.py on 1 rank: not-exercised: no-weighted-sum",
    ),
    "a root of the loss": ("for _ in range(2):\n    optimizer.zero_grad()\n"
                           "    loss().sqrt().backward()\n    optimizer.step()",
                           0, "is not judged: no weighted sum of its items' losses"),
}  # fmt: skip
RUNNER = """
import json, os, sys
from pathlib import Path
from conformance.weighing.torch_run import weigh_script
here = Path.cwd()
for folder in sorted(here.iterdir()):
    if folder.is_dir():
        weigh_script(folder, 2, str(folder / "train.py"), [], module=False)
        os.chdir(here)
"""


def test_each_script_ends_with_its_own_status_and_a_line_that_says_why(tmp_path):
    folder = tmp_path
    for name, (body, _, _) in SCRIPTS.items():
        (folder / name).mkdir()
        (folder / name / "train.py").write_text(HEAD + body)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    for name, (_, status, words) in SCRIPTS.items():
        check_ending(folder / name, status, words)


def check_ending(folder, status, words):
    rank = json.loads((folder / "rank-0.json").read_text())
    assert rank["status"] == status
    assert not rank["problems"]
    ending = Ending(read_steps(folder), status, ranks=[rank])
    verdicts = judge(ending.steps, "step_mean")
    told = "\n".join([*lines(verdicts, "train.py", "step_mean"),
                      *why_nothing(ending, verdicts, "train.py")])  # fmt: skip
    assert words in told, told


def script(tmp_path, body):
    file = tmp_path / "train.py"
    file.write_text(HEAD + body)
    return file


def test_a_right_script_passes_and_leaves_a_report(cli, tmp_path):
    file = script(tmp_path, "print('argv', sys.argv[1:]); train(9); print('never')")
    done = cli("weigh", "--promise", "step_mean", "--report", "out", "--picture", "p.svg", file,
               "--lr", "3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "argv ['--lr', '3']" in done.stdout
    assert "never" not in done.stdout
    assert "✓ steps 1 to 2 of train.py on 1 rank: step_mean: 1/N" in done.stdout
    data = json.loads((tmp_path / "out" / "weights.json").read_text())
    assert (data["format"], data["version"]) == ("conformance-weigh", 1)
    (term,) = data["optimizers"][0]["terms"]
    assert term["formula"] == "1/N"
    assert all(c["low"] <= 1 / 5 <= c["high"] for c in term["cells"])
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<svg" in page
    assert not re.search(r"(src|href)=", page)
    assert (tmp_path / "p.svg").read_text().startswith("<svg")


def test_a_script_that_fails_keeps_its_own_status(cli, tmp_path):
    done = cli("weigh", script(tmp_path, "train(1); raise RuntimeError('mine')"))
    assert done.returncode == 1
    assert "RuntimeError: mine" in done.stderr
    assert "torch_run.py" not in done.stderr
    assert cli("weigh", script(tmp_path, "os._exit(9)")).returncode == 9


def test_nothing_weighed_is_never_a_pass(cli, tmp_path):
    done = cli("weigh", script(tmp_path, "import subprocess\nsubprocess.run(['true'])"))
    assert done.returncode == 3
    assert "not-exercised" in done.stdout
    assert "processes of its own" in done.stdout


def test_a_wrong_call_is_one_line(cli, tmp_path):
    done = cli("weigh", "nowhere.py")
    assert (done.returncode, done.stderr) == (2, "conformance: no such script: nowhere.py\n")
    assert cli("weigh", "--promise", "mean", script(tmp_path, "")).returncode == 2


def test_a_script_that_hangs_in_a_collective_is_ended_and_told_where(cli, tmp_path):
    body = """
import time
torch.distributed.init_process_group("gloo")
train(1)
if torch.distributed.get_rank() == 0:
    torch.distributed.barrier()
time.sleep(600)
"""
    file = script(tmp_path, body)
    at = 1 + file.read_text().splitlines().index("    torch.distributed.barrier()")
    done = cli("weigh", "--ranks", "2", "--timeout", "15", file)
    assert done.returncode == 3
    assert "1/N" in done.stdout
    assert "no optimizer step came in time" in done.stdout
    assert f'rank 0 is at "{file}", line {at}' in done.stdout
    assert f'rank 1 is at "{file}", line {at + 1}' in done.stdout


def test_processes_that_the_script_spawns_are_told_and_not_weighed(cli, tmp_path):
    (tmp_path / "train.py").write_text("""
import torch
def work(rank):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
if __name__ == "__main__":
    torch.multiprocessing.spawn(work, nprocs=1)
""")
    done = cli("weigh", "train.py")
    assert done.returncode == 3, done.stderr
    assert "let torchrun start them, or use --ranks W" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_keeps_the_steps_that_were_weighed(tmp_path):
    file = script(tmp_path, "train(1)\nprint('stepped', flush=True)\nimport time\ntime.sleep(600)")
    process = subprocess.Popen(
        [sys.executable, "-m", "conformance", "weigh", str(file)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == "stepped\n"
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "1/N" in told
    assert "interrupted; 1 step was weighed before" in told


def test_ranks_are_started_and_torchrun_may_start_them_too(tmp_path):
    body = """
import torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(model)
for step in range(3):
    n = 3 + 2 * dist.get_rank() + step
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(n, 6)), torch.randint(0, 3, (n,))).backward()
    optimizer.step()
"""
    file = script(tmp_path, body)
    call = ["weigh", "--promise", "step_mean", str(file)]
    ours = [sys.executable, "-m", "conformance", call[0], "--ranks", "2", *call[1:]]
    agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    theirs = [sys.executable, *agent, "-m", "conformance", *call]
    told = []
    for command in (ours, theirs):
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path)
        assert done.returncode == 1
        told.append([row for row in done.stdout.splitlines() if row.startswith(("✗", "    "))])
    assert told[0] == told[1]
    assert told[0][0] == "✗ steps 1 to 2 of train.py on 2 ranks: mean-of-means"


def test_a_module_runs_as_main(cli, tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    Path(tmp_path / "pack" / "train.py").write_text(HEAD + "assert __name__ == '__main__'; train()")
    assert cli("weigh", "-m", "pack.train").returncode == 0


def test_a_step_that_one_rank_skips_is_named_and_no_rank_waits_for_ever(cli, tmp_path):
    file = script(
        tmp_path,
        """
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
model = torch.nn.parallel.DistributedDataParallel(model)
for step in range(6):
    optimizer.zero_grad()
    loss().backward()
    if (rank, step) != (0, 1):
        optimizer.step()
""",
    )
    done = cli("weigh", "--ranks", "2", "--promise", "step_mean", file)
    assert done.returncode == 1, done.stderr
    assert "step-skipped-by-one-rank" in done.stdout
    assert "rank 0 began another backward pass without taking this step" in done.stdout
    assert "Traceback" not in done.stderr
