"""`conformance bench worlds` measures what it says; no test here asserts a time of another."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from conformance.cli import suite
from conformance.core.outcomes import UsageError
from conformance.frameworks import is_installed

TINY = ("bench", "worlds", "--world-size", "2", "--repeat", "1")
needs_torch = pytest.mark.skipif(not is_installed("torch"), reason="torch is not installed")


@needs_torch
def test_a_run_says_medians_how_many_were_measured_and_the_memory(cli):
    done = cli(*TINY)
    assert (done.returncode, done.stderr) == (0, "")
    start, _, row, memory = done.stdout.splitlines()
    assert re.fullmatch(r"first start of a pool of 8 ranks: \d+\.\d s", start)
    assert re.fullmatch(
        r"2 ranks: pool \d\.\d{4} s \(20\), fresh \d+\.\d\d s \(1\), ratio \d+", row
    )
    devices = 8 if is_installed("jax") else 0
    assert memory.startswith(f"memory of 8 torch ranks and a JAX host of {devices} devices: ")
    assert 0.1 < float(memory.split()[-2]) < 64


def is_gone(session):
    """Says whether nothing of a session is left; what was killed may wait to be reaped."""
    late = time.monotonic() + 20
    while time.monotonic() < late:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@needs_torch
def test_ctrl_c_exits_with_3_and_leaves_what_was_measured(tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-u", "-m", "conformance", *TINY[:-1], "20"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    first = running.stdout.readline()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert first.startswith("first start of a pool")
    assert running.returncode == 3
    assert "Traceback" not in errors
    assert is_gone(running.pid)


@needs_torch
def test_a_fresh_rank_that_fails_is_quoted(monkeypatch, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch is in pieces')")
    monkeypatch.syspath_prepend(str(suite.bench_script().parent))
    monkeypatch.syspath_prepend(str(tmp_path))
    import bench_pool

    with pytest.raises(UsageError, match=r"a fresh rank failed: .* in pieces"):
        bench_pool.fresh(0, 2)


def test_a_benchmark_that_is_not_there_is_one_line(cli, monkeypatch, tmp_path):
    done = cli("bench", "speed")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "conformance: no benchmark matches 'speed'; known: worlds\n"
    monkeypatch.setattr(suite, "__file__", str(tmp_path / "conformance" / "cli" / "suite.py"))
    with pytest.raises(UsageError, match=r"bench_pool\.py is not here"):
        suite.bench_script()


@pytest.mark.parametrize("arguments", [("--world-size", "3"), ("--repeat", "0")])
def test_numbers_that_make_no_sense_are_refused(cli, arguments):
    done = cli("bench", *arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
