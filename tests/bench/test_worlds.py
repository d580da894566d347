"""`conformance bench worlds` measures what it says; no test here asserts a time of another."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from conformance import bench
from conformance.bench import fresh, memory, worlds
from conformance.core.outcomes import UsageError
from conformance.frameworks import is_installed

needs_torch = pytest.mark.skipif(not is_installed("torch"), reason="torch is not installed")
TINY = ("bench", "worlds", "--world-size", "2", "--repeat", "1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A whole run with one check in fresh processes, as a user has it."""
    return subprocess.run(
        [sys.executable, "-m", "conformance", *TINY],
        cwd=tmp_path_factory.mktemp("empty"),
        capture_output=True,
        text=True,
        timeout=280,
    )


@needs_torch
def test_a_run_says_medians_and_how_many_were_measured(tiny):
    assert tiny.returncode == 0, tiny.stderr
    heading, columns, row, start, *_ = tiny.stdout.splitlines()
    assert heading.startswith("median seconds a check")
    assert " ".join(columns.split()) == "ranks pool checks fresh processes checks ratio"
    assert re.fullmatch(r" *2 +0\.\d{4} s +20 +\d+\.\d\d s +1 +\d+", row)
    assert re.fullmatch(r"first start of a pool of 8 ranks: \d+\.\d s", start)


@needs_torch
def test_a_run_says_the_memory_of_eight_ranks_and_eight_devices_as_a_fact(tiny):
    said = tiny.stdout.splitlines()[-1]
    host = "and a JAX host of 8 devices" if is_installed("jax") else "(no JAX here)"
    assert said.startswith(f"peak memory of 8 torch ranks {host}: ")
    gib, processes = re.search(r": (\d+\.\d\d) GiB in (\d+) processes, ", said).groups()
    assert 0.1 < float(gib) < 64
    assert int(processes) >= 9  # the ranks, and what they were forked from
    assert said.endswith("below 6 GiB" if float(gib) < 6 else "not below 6 GiB")


@needs_torch
def test_progress_goes_to_stderr(tiny):
    lines = tiny.stderr.splitlines()
    assert lines[0] == "starting a pool of 8 ranks"
    assert re.fullmatch(
        r"W = 2, 1/20: \d\.\d{3} s on the pool, \d+\.\d s in fresh processes \(1 of 1\)", lines[1]
    )
    assert lines[2].startswith("memory of 8 ranks")


@needs_torch
def test_ctrl_c_prints_what_was_measured_and_exits_with_3(tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-m", "conformance", *TINY[:-1], "20"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said = [running.stderr.readline(), running.stderr.readline()]
    time.sleep(0.5)  # the next check has its fresh processes by now
    children = memory.below(running.pid)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert said[1].endswith("(1 of 20)\n")
    assert running.returncode == 3
    assert "interrupted: what was measured so far" in err
    assert "Traceback" not in err
    assert re.search(r"^ *2 +0\.\d{4} s +[23] +\d+\.\d\d s +[12] +\d+$", out, re.MULTILINE)
    assert "peak memory" not in out
    late = time.monotonic() + 10
    while any(map(_is_alive, children)) and time.monotonic() < late:
        time.sleep(0.05)
    assert children
    assert not any(map(_is_alive, children))


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@needs_torch
def test_a_fresh_rank_that_fails_is_told_in_its_own_words(monkeypatch, tmp_path):
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('torch is in pieces')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"a fresh rank ended with status 1: (?s:.*) in pieces"):
        fresh.check(0, 2)


def test_what_there_is_of_the_figures_is_shown(capsys):
    half = worlds.Measured(start=3.25, pool={2: [0.01, 0.03, 0.02], 4: []}, fresh={2: [5.0]})
    worlds.show(half, Console())
    _, _, two, four, start = capsys.readouterr().out.splitlines()
    assert two.split() == ["2", "0.0200", "s", "3", "5.00", "s", "1", "250"]
    assert four.split() == ["4", "·", "0", "·", "0", "·"]
    assert start == "first start of a pool of 8 ranks: 3.2 s"


def test_nothing_measured_shows_nothing(capsys):
    worlds.show(worlds.Measured(), Console())
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("held", "has_jax", "words"),
    [
        (3 << 30, True, "ranks and a JAX host of 8 devices: 3.00 GiB in 9 processes, below 6 GiB"),
        (7 << 30, False, "ranks (no JAX here): 7.00 GiB in 9 processes, not below 6 GiB"),
        (0, True, "ranks and a JAX host of 8 devices: not told by this system"),
    ],
)
def test_memory_is_told_as_a_fact(capsys, held, has_jax, words):
    worlds.show(worlds.Measured(memory=held, processes=9, has_jax=has_jax), Console(width=200))
    assert words in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
def test_the_peak_counts_what_a_child_and_its_child_hold():
    before = set(memory.below(os.getpid()))  # other tests' worlds, in the same process
    code = "import subprocess, sys; big = bytearray(b'x') * (64 << 20); input()"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    with memory.Peak() as peak:
        child = subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE)
        late = time.monotonic() + 30
        while peak.bytes < 64 << 20 and time.monotonic() < late:
            time.sleep(0.05)
        child.communicate(b"\n")
    assert 64 << 20 < peak.bytes < (64 << 20) + (1 << 30) * (1 + len(before))
    assert peak.processes >= 2
    assert memory.held(2**22 + 1) == 0
    assert set(memory.below(os.getpid())) <= before


def test_an_unknown_name_is_one_line_that_names_the_known_ones(cli):
    done = cli("bench", "speed")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "conformance: no benchmark matches 'speed'; known: worlds\n"


def test_patterns_choose_by_name():
    assert bench.chosen([]) == bench.chosen(["wor*"]) == ["worlds"]
    with pytest.raises(UsageError, match="known: worlds"):
        bench.chosen(["worlds", "nothing"])


@pytest.mark.parametrize("arguments", [("--world-size", "3"), ("--repeat", "0")])
def test_numbers_that_make_no_sense_are_refused(cli, arguments):
    done = cli("bench", *arguments)
    assert done.returncode == 2
    assert arguments[0] in done.stderr


def test_help_gives_examples_in_under_half_a_second_and_without_a_framework(cli):
    seconds = []
    for _ in range(5):  # other tests may be running: the quickest of a few counts
        started = time.perf_counter()
        done = cli("bench", "--help")
        seconds.append(time.perf_counter() - started)
    assert "\n  conformance bench worlds --world-size 2 --repeat 1 " in done.stdout
    assert min(seconds) < 0.5
    code = (
        "import sys; from conformance.cli import commands\n"
        "try: commands(['bench', '--help'], standalone_mode=False)\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'jax', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
