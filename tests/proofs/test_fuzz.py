"""Fuzzing finds what is wrong, shrinks it, goes on after what hangs or dies, and loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from conformance.core.report_folder import ReportFolder
from conformance.proofs.fuzz import Settings, run
from conformance.proofs.fuzz.ledger import Failure
from conformance.proofs.fuzz.rounds import minimal
from conformance.run.case_files import read as read_case
from conformance.run.known import Known
from conformance.run.plan import make_players

RIGHT = "x.reshape(n, groups, c // groups, *s).swapaxes(1, 2).reshape(x.shape).copy()"
# Wrong from 30 channels on; hangs or dies on some shapes; right.
BODY = f"""
def checked(x, groups):
    if groups <= 0 or x.shape[1] % groups:
        raise ValueError("no such groups")
    return x.shape


@conformance.implementation("channel_shuffle", framework="numpy")
def big_is_wrong(x, groups):
    n, c, *s = checked(x, groups)
    groups = c // groups if c >= 30 else groups
    return {RIGHT}


@conformance.implementation("channel_shuffle", framework="numpy")
def hangs(x, groups):
    n, c, *s = checked(x, groups)
    while c > 20:
        pass
    return {RIGHT}


@conformance.implementation("channel_shuffle", framework="numpy")
def dies(x, groups):
    n, c, *s = checked(x, groups)
    if c > 20:
        __import__("os")._exit(3)
    return {RIGHT}


@conformance.implementation("channel_shuffle", framework="numpy")
def right(x, groups):
    n, c, *s = checked(x, groups)
    return {RIGHT}
"""


@pytest.fixture
def fuzzed(adapter, tmp_path):
    """Fuzzing of some of these, for so many checks or seconds."""
    file = str(adapter(BODY))

    def go(*names, checks=200, seconds=600.0, seed=1, timeout=5.0, known=()):
        seen = []

        def stop(check, _asked):
            seen.append(check)
            if len(seen) == checks:
                raise KeyboardInterrupt

        players = make_players([f"channel_shuffle/{name}" for name in names], adapters=[file])
        settings = Settings(seconds, seed, timeout)
        with ReportFolder(tmp_path / "out") as folder:
            done = run(players, settings, folder, known=known, adapters=[file], on_check=stop)
        return done, seen

    return go


def test_a_failure_is_shrunk_to_the_simplest_case_that_fails(fuzzed):
    done, _ = fuzzed("big_is_wrong", checks=400)
    [found] = minimal(done.ledger.failures)
    question = found.check.case.question
    assert found.is_minimal
    assert found.verdict.fits == ("inverse-groups",)
    assert question.channels == 30, "one channel fewer is right"
    assert question.shape == (1, 30, 1)
    assert (question.dtype, question.layout, question.derivative) == ("f32", "contiguous", "none")


def test_a_found_case_is_a_file_that_fails_again(fuzzed, cli, tmp_path):
    done, _ = fuzzed("big_is_wrong", checks=400)
    [found] = minimal(done.ledger.failures)
    file = done.ledger.file_of(found)
    assert read_case(file.read_text()) == found.check.case
    again = cli("run", "*/big_is_wrong", "--case", file, "--adapter", "mine.py")
    assert again.returncode == 1
    assert "1 of 1 checks" in again.stdout


def test_equal_seeds_ask_equal_cases_and_others_ask_others(fuzzed):
    (_, one), (_, again), (_, other) = (fuzzed("right", seed=seed) for seed in (5, 5, 6))
    assert [check.id for check in one] == [check.id for check in again]
    assert [check.id for check in one] != [check.id for check in other]


def test_everybody_is_asked_the_same_cases(fuzzed):
    _, seen = fuzzed("right", "big_is_wrong", checks=400)
    asked = {}
    for check in seen:
        asked.setdefault(check.implementation.name, []).append(check.case)
    first, second = asked["big_is_wrong"], asked["right"]
    shared = min(len(first), len(second), 20)  # shrinking asks one of them more
    assert first[:shared] == second[:shared]


@pytest.mark.parametrize(("name", "status"), [("hangs", "timeout"), ("dies", "crash")])
def test_who_hangs_or_dies_is_left_out_and_the_rest_goes_on(fuzzed, name, status):
    done, seen = fuzzed(name, "right", checks=300, timeout=0.5)
    assert done.left_out == [f"channel_shuffle/{name}@cpu hung or died 3 times"]
    [kept] = done.ledger.failures
    assert kept.verdict.status == status
    assert done.ledger.file_of(kept).exists()
    assert seen[-1].implementation.name == "right"
    assert done.ledger.counts["channel_shuffle/right@cpu"].keys() == {"exact", "unsupported"}


def test_the_right_ones_have_no_failure_and_fuzzing_ends_by_the_clock(fuzzed):
    done, _ = fuzzed("right", checks=10**9, seconds=2.0)
    assert done.is_whole
    assert done.ledger.asked
    assert done.ledger.failures == []


def test_a_known_difference_is_no_failure(fuzzed):
    known = [
        Known(
            ("channel_shuffle/big_is_wrong@*",),
            ("fail *",),
            date(2026, 11, 25),
            "so",
            "some/repo#1",
        )
    ]
    done, _ = fuzzed("big_is_wrong", checks=400, known=known)
    assert done.ledger.failures == []
    assert done.ledger.counts["channel_shuffle/big_is_wrong@cpu"]["known"] > 0


def _wait_for(file):
    for _ in range(600):
        if file.exists():
            return
        time.sleep(0.1)


def lines_of(file: Path):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_killed_run_has_kept_what_it_found(adapter, tmp_path):
    file = adapter(BODY)
    call = [sys.executable, "-m", "conformance", "fuzz", "*/big_is_wrong", "--adapter", file]
    going = subprocess.Popen([*call, "--seconds", "60", "--seed", "1"], cwd=tmp_path)
    ledger = tmp_path / "conformance-report" / "fuzz.jsonl"
    for _ in range(600):
        if ledger.exists() and any(e["kind"] == "failure" for e in lines_of(ledger)):
            break
        time.sleep(0.1)
    os.kill(going.pid, signal.SIGKILL)
    going.wait()
    failures = [entry for entry in lines_of(ledger) if entry["kind"] == "failure"]
    assert failures
    assert failures[0]["fits"] == ["inverse-groups"]
    assert list((tmp_path / "conformance-report" / "fuzz").iterdir())


def test_the_command_line_tells_finds_and_statuses(adapter, cli, tmp_path):
    adapter(BODY)
    good = cli("fuzz", "*/right", "--adapter", "mine.py", "--seconds", "1", "--seed", "3")
    assert good.returncode == 0, good.stderr
    assert "none fails; --seed 3 draws the same again" in good.stdout
    bad = cli("fuzz", "*/big_is_wrong", "--adapter", "mine.py", "--seconds", "10", "--seed", "1")
    assert bad.returncode == 1
    assert "conformance run channel_shuffle/big_is_wrong@cpu --case" in bad.stdout
    assert "1 way to fail" in bad.stdout
    footer = lines_of(tmp_path / "conformance-report" / "fuzz.jsonl")[-1]
    assert (footer["kind"], footer["conforms"], footer["whole"]) == ("footer", False, True)


def test_ctrl_c_ends_it_with_3_and_a_summary(adapter, tmp_path):
    adapter(BODY)
    call = [sys.executable, "-m", "conformance", "fuzz", "*/right", "--adapter", "mine.py"]
    going = subprocess.Popen(
        [*call, "--seconds", "60"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    _wait_for(tmp_path / "conformance-report" / "fuzz.jsonl")
    going.send_signal(signal.SIGINT)
    out, _ = going.communicate(timeout=30)
    assert going.returncode == 3
    assert "Cut short: " in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["channel_shuffle/torch_module:grid*"], "names cases, and an implementation is meant"),
        (["channel_shuffle/nobody"], "no check matches 'channel_shuffle/nobody'"),
        (["--seconds", "0"], "0.0 is not in the range 0<x<=604800"),
        (["--device", "tpux"], "unknown device 'tpux'"),
    ],
)
def test_a_wrong_call_is_one_line_and_2(cli, arguments, words):
    done = cli("fuzz", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_hypothesis_it_says_how_to_get_it(tmp_path):
    code = (
        "import sys; sys.modules['hypothesis'] = None; sys.argv[1:] = ['fuzz']\n"
        "from conformance.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == ("conformance: Hypothesis draws the cases: pip install hypothesis\n")


def test_what_could_not_be_shrunk_is_told_as_it_came(fuzzed):
    done, _ = fuzzed("big_is_wrong", checks=400)
    first = next(f for f in done.ledger.failures if not f.is_minimal)
    assert minimal([first]) == [first]
    assert minimal([first, Failure(first.check, first.verdict, is_minimal=True)])[0].is_minimal
