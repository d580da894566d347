"""Whatever one rank does, its check has a status, the next check runs, and nothing is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance.run.results import read

AVERAGE = """
import conformance
import torch.distributed as dist


def average(model, loss, batches, group, divisor):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= divisor
"""
# Sums, never synchronises, or does something else on rank 1; right in the case in between.
MINE = """

@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")
def {name}(model, loss, batches, group):
    if len(batches) == 2:  # the case in between: nothing is wrong
        return average(model, loss, batches, group, group.size())
    rank = group.rank()
    {lines}
    average(model, loss, batches, group, {divisor})
"""
# By name: the lines, by what the sum is divided, the status of its two checks, and their words.
RANK_1 = {
    "sums": ("pass", "1", "fail", "not-divided"),
    "keeps_to_itself": (
        "[loss(model(x), y).backward() for x, y in batches]; return",
        "1",
        "fail",
        "never-synchronised",
    ),
    "raises": (
        "if rank == 1: raise ValueError('not today')", "group.size()", "error", "rank 1: raised",
    ),
    "hangs": ("while rank == 1: pass", "group.size()", "timeout", "rank 1: "),
    "leaves": ("if rank == 1: import os; os._exit(3)", "group.size()", "crash", "rank 1: "),
    "dies": (
        "if rank == 1: import ctypes; ctypes.string_at(0)", "group.size()", "crash", "SIGSEGV",
    ),
    "exits": ("if rank == 1: import sys; sys.exit('bye')", "group.size()", "error", "SystemExit"),
    "returns": ("if rank == 1: return", "group.size()", "timeout", "rank 0: "),
    # The group that was handed over may outlive the default one.
    "destroys": ("if rank == 1: dist.destroy_process_group()", "group.size()", "", ""),
}  # fmt: skip


def processes(mark):
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout
    return [line for line in found.splitlines() if str(mark) in line and "ps -eo" not in line]


@pytest.fixture
def leftovers(tmp_path, monkeypatch):
    """The temporary folder of a run, which is to be empty when it has ended."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def three_cases():
    from conformance.core.questions import GradientQuestion
    from conformance.subjects import all_cases

    cases = [
        case
        for case in all_cases()
        if isinstance(case.question, GradientQuestion)
        and case.question.world_size == 2
        and case.question.tier == "exact"
        and not case.asked_of
        and (not case.promises or "rank_mean" in case.promises)
        and (not case.frameworks or "torch" in case.frameworks)
        and case.question.model in ("linear", "mlp", "frozen", "two_heads")
    ]
    one, two = ([c for c in cases if c.question.micro_batches == k] for k in (1, 2))
    return [one[0], two[0], one[1]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of them all, in which every bad check is followed by a good one."""
    folder = tmp_path_factory.mktemp("rank-1")
    temporary = folder / "tmp"
    temporary.mkdir()
    file = folder / "mine.py"
    bodies = [
        MINE.format(name=name, lines=lines, divisor=divisor)
        for name, (lines, divisor, *_) in RANK_1.items()
    ]
    file.write_text(AVERAGE + "".join(bodies))
    patterns = [f"gradient_mean/{name}:{case.name}" for name in RANK_1 for case in three_cases()]
    call = ["run", *patterns, "--adapter", str(file), "--timeout", "6"]
    done = subprocess.run(
        [sys.executable, "-m", "conformance", *call],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1
    assert processes(temporary) == []
    assert list(temporary.iterdir()) == []
    records = read(folder / "conformance-report").records
    return {(one.implementation, one.case): one for one in records}


@pytest.mark.parametrize("name", RANK_1)
def test_what_rank_1_does_costs_its_own_check_only(run, name):
    *_, status, words = RANK_1[name]
    bad, good, again = (run[name, case.name] for case in three_cases())
    for one in (bad, again):
        assert one.status == status or (not status and one.status in ("exact", "error", "crash"))
        assert words in one.reason
    assert good.status == "exact", good.reason


def test_a_killed_run_is_readable_and_the_next_one_starts_clean(tmp_path, leftovers):
    call = [sys.executable, "-m", "conformance", "run", "gradient_mean/torch_ddp:ddp-*"]
    run = subprocess.Popen(call, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    results = tmp_path / "conformance-report" / "results.jsonl"
    for _ in range(600):
        if results.exists() and len(results.read_text().splitlines()) > 20:
            break
        time.sleep(0.1)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    cut = read(results)
    assert cut.footer is None
    assert len(cut.records) >= 19
    for _ in range(100):
        if not processes(leftovers):
            break
        time.sleep(0.1)
    assert processes(leftovers) == [], "the ranks ended with their parent"
    again = subprocess.run(
        [*call[:-1], "gradient_mean/torch_ddp:ddp-mean-*"], cwd=tmp_path, capture_output=True
    )
    assert again.returncode == 0
    assert read(results).footer["conforms"]
    assert list(Path(leftovers).iterdir()) == [], "what the killed run left was swept"


def test_the_example_is_named_for_what_it_is(cli, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "wrong_gradient.py"
    names = ["linear-w2-equal-*", "spectrometer-w2-*", "spectrometer-w4-*"]
    patterns = [f"gradient_mean/wrong_*:{name}" for name in names]
    done = cli("run", *patterns, "--adapter", example)
    assert done.returncode == 1
    found, reasons = {}, {}
    for record in read(tmp_path / "conformance-report").records:
        found.setdefault(record.implementation, set()).add(record.mistake)
        reasons.setdefault(record.implementation, []).append(record.reason)
    assert found["wrong_sum"] >= {"not-divided"}
    assert found["wrong_never_synchronised"] >= {"never-synchronised"}
    assert found["wrong_mean_of_means"] >= {"mean-of-means", None}
    assert found["wrong_pmean_of_a_sum"] >= {"not-divided"}
    assert all("device 0 and device 1 hold different" in r for r in reasons["wrong_shard_0"])


def test_the_plainest_ddp_loop_is_not_red_where_a_parameter_is_unused(cli, tmp_path):
    (tmp_path / "plain.py").write_text(
        "import conformance\n"
        "from torch.nn.parallel import DistributedDataParallel\n\n"
        '@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")\n'
        "def plain(model, loss, batches, group):\n"
        "    ddp = DistributedDataParallel(model, process_group=group)\n"
        "    for x, y in batches:\n"
        "        loss(ddp(x), y).backward()\n"
    )
    patterns = ("gradient_mean/plain:unused-w2-equal*", "gradient_mean/plain:mlp-w2-equal*")
    done = cli("run", "--adapter", "plain.py", *patterns)
    assert done.returncode == 0, done.stdout
    assert "unused-parameters-not-found: give DDP find_unused_parameters=True" in done.stdout
    by_status = {r.status: r for r in read(tmp_path / "conformance-report").records}
    assert by_status["known"].mistake == "unused-parameters-not-found"
