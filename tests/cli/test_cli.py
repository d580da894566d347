"""The command line as users call it, rightly and wrongly."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import conformance
from conformance.cli.explained import explain
from conformance.core.implementations import PROMISES
from conformance.core.verdict import STATUSES
from conformance.run.results import read
from conformance.subjects import all_cases

ROOT = Path(__file__).parents[2]
WRONG = ROOT / "examples" / "wrong_shuffle.py"
NUMPY = "channel_shuffle/numpy_*"
GRID = "channel_shuffle/numpy_*:grid*"
COMMANDS = [[Path(sys.executable).with_name("conformance")], [sys.executable, "-m", "conformance"]]


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_run_leaves_header_checks_and_footer(cli, tmp_path):
    done = cli("run", NUMPY, "--report", "out")
    assert done.returncode == 0, done.stderr
    header, *checks, footer = lines_of(tmp_path / "out" / "results.jsonl")
    fixed = ["kind", "suite", "started", "checks", "goldens", "environment"]
    assert list(header) == [*fixed, "format", "plan", "shard"]
    assert {"python", "platform", "devices", "packages", "precision"} <= set(header["environment"])
    assert header["checks"] == len(checks)
    for check in checks:
        assert list(check) == [
            "kind",
            "id",
            "operation",
            "implementation",
            "device",
            "case",
            "clauses",
            "status",
            "reason",
            "mistake",
            "error_over_bound",
            "seconds",
            "answer",
            "promise",
            "fits",
        ]
        assert check["status"] in STATUSES
        assert check["reason"] or check["status"] == "exact"
    assert footer["conforms"] is True
    assert sum(footer["counts"].values()) == len(checks)


def test_what_was_read_off_a_wrong_answer_is_a_field_of_its_check(cli, tmp_path):
    done = cli("run", "--adapter", WRONG, "channel_shuffle/wrong_inverse:identity-probe-f32-c12-g3")
    assert done.returncode == 1
    [check] = lines_of(tmp_path / "conformance-report" / "results.jsonl")[1:-1]
    evidence = check["evidence"]
    assert evidence["differs"]["index"] == [0, 1, 0, 0]
    assert evidence["differs"]["expected"] == "217.0 (0x43590000)"
    assert sorted(evidence["permutation"]) == list(range(12))
    for label, words in (
        ("differs", evidence["differs"]["words"]),
        ("shows", evidence["observed"][0]),
        ("mistake", "inverse-groups"),
        ("done", evidence["done"]),
        ("write", evidence["advice"]),
    ):
        assert f"\n{label:<9}{words}\n" in done.stdout


def test_all_prints_a_row_for_each_implementation(cli, tmp_path):
    cli("run", NUMPY + ":grid*")
    short, whole = (
        cli("report", "conformance-report", "--to", "again", *options)
        for options in ((), ("--all",))
    )
    assert "channel_shuffle/numpy_reshape@cpu" not in short.stdout
    assert "channel_shuffle/numpy_reshape@cpu" in whole.stdout
    assert short.stdout.splitlines()[-3:] == whole.stdout.splitlines()[-3:]


def test_a_run_writes_into_its_report_folder_alone(cli, tmp_path):
    cli("run", "channel_shuffle/numpy_reshape:grid*")
    assert [path.name for path in tmp_path.iterdir()] == ["conformance-report"]


def test_wrong_implementations_are_named_and_the_status_is_1(cli, tmp_path):
    done = cli("run", "--adapter", WRONG, "channel_shuffle/wrong_i*", "--report", "out")
    assert done.returncode == 1
    assert "all are consistent with inverse-groups" in done.stdout
    assert "all are consistent with shuffled-within-groups" in done.stdout
    named = {
        (record.implementation, record.mistake)
        for record in read(tmp_path / "out").records
        if record.mistake
    }
    assert ("wrong_inverse", "inverse-groups") in named
    assert {mistake for name, mistake in named if name == "wrong_inverse"} == {"inverse-groups"}


def test_a_failure_prints_the_line_that_reruns_it_and_the_line_does(cli):
    done = cli("run", "--adapter", WRONG, "channel_shuffle/wrong_inverse:grid-c6-g2")
    (rerun,) = [line for line in done.stdout.splitlines() if line.startswith("rerun ")]
    again = cli(*rerun.split()[2:])
    assert again.returncode == 1
    assert "1 fail" in again.stdout


def test_torch_and_jax_answer_through_their_worlds(cli, tmp_path):
    done = cli("run", "channel_shuffle/torch_module:*probe*", "channel_shuffle/jax_jit:*probe*")
    assert done.returncode == 0, done.stderr + done.stdout
    described = read(tmp_path / "conformance-report").header["environment"]
    assert {"torch", "jax"} <= set(described["packages"]) & set(described["devices"])
    assert "agreement  12 of 12 cases" in done.stdout


def test_a_device_that_is_not_here_is_named_with_what_there_is_and_why(cli, tmp_path):
    torch, jax = "channel_shuffle/torch_module:*probe*", "channel_shuffle/jax_jit:*probe*"
    done = cli("run", "--device", "cuda", torch, jax, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    progress, line = done.stderr.splitlines()
    assert progress == "starting the frameworks"
    assert re.fullmatch(
        r"conformance: no device cuda here; there is cpu \(jax, torch\); "
        r"jax \S+ has no cuda here: .+; torch .*cuda.*",
        line,
        re.IGNORECASE,
    ), line


def test_all_goes_on_with_what_there_is_and_counts_the_rest(cli, tmp_path):
    chosen = ["channel_shuffle/torch_module:*probe*", "gradient_mean/torch_ddp:linear-w2-equal*"]
    done = cli("run", "--device", "all", *chosen, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stdout + done.stderr
    run = read(tmp_path / "conformance-report")
    by_device = {}
    for record in run.records:
        by_device.setdefault(record.device, []).append(record)
    assert set(by_device) == {"cpu", "cuda", "tpu", "mps"}
    assert {record.status for record in by_device["cpu"]} == {"exact"}
    for kind in ("cuda", "tpu", "mps"):
        assert len(by_device[kind]) == len(by_device["cpu"])
        assert {record.status for record in by_device[kind]} == {"unsupported"}
        assert all(record.reason.startswith("torch ") for record in by_device[kind])
        assert f"all@{kind}" in done.stdout
    assert "precision  matmul keeps f64 53, f32 24, f16 11, bf16 8 bits (torch cpu)" in done.stdout
    told = run.header["environment"]["precision"]
    assert told["matmul_bits torch cpu"] == "f64 53, f32 24, f16 11, bf16 8"
    assert told["matmul_tf32"] == told["cudnn_benchmark"] == "False"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "channel_shufle"], "no check matches 'channel_shufle'; nearest"),
        (["run", "mine.py"], "'mine.py' is a file, and no pattern of checks: conformance run --a"),
        (["run", "--adapter", "nowhere.py"], "adapter nowhere.py: no such file"),
        (["run", "--adapter", "."], "adapter .: is neither a FILE.py nor a module's name"),
        (["run", "--last-failed"], "--last-failed: there is no run in conformance-report"),
        (["run", "--device", "quantum"], "unknown device 'quantum'"),
        (
            ["run", NUMPY, "--device", "cuda"],
            "no device cuda here; there is cpu (numpy); numpy has the CPU alone",
        ),
        (["run", f"{NUMPY}@cuda:3"], "no device cuda:3 here; there is cpu (numpy)"),
        (["run", NUMPY, "--device", "cuda:x"], "unknown device 'cuda:x'; known: cpu, cuda, tpu"),
        (
            ["fuzz", "channel_shuffle/numpy_reshape", "--device", "cuda"],
            "no device cuda here; there is cpu (numpy); numpy has the CPU alone",
        ),
        (["run", "--shard", "3/2"], "--shard 3/2: I/N is meant"),
        (["run", NUMPY, "--report", "/proc/nowhere"], "report folder /proc/nowhere: cannot be"),
        (["run", "--jobs", "0"], "--jobs"),
        (["run", "--no-such-option"], "--no-such-option"),
        (["list", "everything"], "everything"),
        (["list", "cases", "nothing_like_it"], "no cases match 'nothing_like_it'"),
        (
            ["explain", "INVERSE-group"],
            "nothing is called 'INVERSE-group'; nearest: inverse-groups",
        ),
        (["explain", "S1", "--picture", "x.png"], "has no photographs"),
        (["regen", "nothing"], "no case matches 'nothing'"),
        (["report", "nowhere.jsonl", "--to", "out"], "results nowhere.jsonl: cannot be read"),
        (["report", "--to", "out"], "Missing argument"),
        (["diff", "a.jsonl"], "Missing argument"),
        (["diff", "a.jsonl", "b.jsonl"], "results a.jsonl: cannot be read"),
    ],
)
def test_a_wrong_call_is_one_clear_line_and_status_2(cli, tmp_path, arguments, words):
    done = cli(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "conformance-report").joinpath("results.jsonl").exists() or not (
        (tmp_path / "conformance-report" / "results.jsonl").read_text()
    )


def test_a_spoilt_golden_stops_a_run_before_any_check(cli, tmp_path):
    """With a copy of the package, so that the real goldens stay as they are."""
    import shutil

    shutil.copytree(Path(conformance.__file__).parent, tmp_path / "conformance")
    shutil.copytree(ROOT / "impls", tmp_path / "impls")
    file = tmp_path / "conformance" / "goldens" / "channel_shuffle-grid.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    environment, grid = {"PYTHONPATH": str(tmp_path)}, "channel_shuffle:grid*"
    for call in (["run", NUMPY], ["regen", grid, "--check"]):
        done = cli(*call, **environment)
        assert "channel_shuffle-grid.safetensors" in done.stderr + done.stdout
        assert done.returncode == (2 if call[0] == "run" else 1)
    assert cli("regen", grid, **environment).returncode == 0
    assert cli("run", "channel_shuffle/numpy_reshape:grid-c6-g2", **environment).returncode == 0


def test_ctrl_c_keeps_what_is_finished(adapter, tmp_path):
    file = adapter(
        "import time\n"
        '@conformance.implementation("channel_shuffle", framework="numpy")\n'
        "def slow(x, groups):\n"
        "    time.sleep(0.05)\n"
        "    return x\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "conformance", "run", "channel_shuffle/slow", "--adapter", file],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    results = tmp_path / "conformance-report" / "results.jsonl"
    deadline = time.monotonic() + 60
    while not (results.exists() and len(results.read_text().splitlines()) > 5):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "Cut short after" in out
    assert "Traceback" not in err
    run = read(results)
    assert run.footer is None
    assert len(run.records) >= 5
    assert not any(record.status == "crash" for record in run.records)


def test_ctrl_c_before_any_check_is_one_line_however_often(adapter, tmp_path):
    file = adapter("import pathlib, time\npathlib.Path('imports').touch()\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "conformance", "run", "--adapter", file],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "imports").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    out, err = process.communicate(timeout=60)
    assert (out, err.strip()) == ("", "conformance: interrupted")
    assert process.returncode == 3


def test_fail_fast_stops_at_the_first_failure(cli, tmp_path):
    done = cli("run", "--adapter", WRONG, "channel_shuffle/wrong_inverse", "--fail-fast")
    assert done.returncode == 1
    assert sum(not r.conforms for r in read(tmp_path / "conformance-report").records) == 1


def test_shards_are_disjoint_and_together_everything(cli, tmp_path):
    ids = []
    for shard in ("1/3", "2/3", "3/3"):
        cli("run", GRID, "--shard", shard, "--report", shard[0])
        ids += [record.id for record in read(tmp_path / shard[0]).records]
    assert (
        len(ids) == len(set(ids)) == len(json.loads(cli("list", "checks", GRID, "--json").stdout))
    )


def test_shards_are_merged_into_one_report(cli, tmp_path):
    for shard in ("1/2", "2/2"):
        cli("run", GRID, "--shard", shard, "--report", shard[0])
    cli("run", GRID, "--report", "whole")
    done = cli("report", "1/results.jsonl", "2", "--to", "merged")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3].startswith("Conforms: ")
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {
        "results.jsonl",
        "agreement.txt",
        "summary.md",
        "checks.csv",
        "junit.xml",
        "badge.svg",
        "index.html",
        ".gitignore",
        ".conformance.lock",
    }
    same = cli("diff", "whole/results.jsonl", "merged/results.jsonl")
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "No difference")
    half = cli("report", "1", "--to", "half")
    assert half.returncode == 3
    assert "Not whole (R1: shard 2/2 is missing)" in half.stdout


def test_a_diff_exits_with_1_where_a_check_got_worse(cli, tmp_path):
    wrong = ["run", "--adapter", WRONG, "channel_shuffle/wrong_inverse:grid-c6-g2"]
    cli(*wrong, "--report", "wrong")
    text = (tmp_path / "wrong" / "results.jsonl").read_text().replace('"fail"', '"exact"')
    right = tmp_path / "right.jsonl"
    right.write_text(text)
    worse = cli("diff", right, "wrong")
    assert worse.returncode == 1
    assert "exact → fail: output: " in worse.stdout
    assert cli("diff", "wrong", right).returncode == 0
    assert cli("report", "wrong", "--to", "again").returncode == 1


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_codes_in_a_pipe(cli, environment):
    done = cli("run", "channel_shuffle/numpy_reshape:grid*", **environment)
    assert "\x1b" not in done.stdout + done.stderr


def test_lists_are_json_with_id_and_operation(cli):
    for what in ("implementations", "cases", "clauses", "mistakes", "checks"):
        entries = json.loads(cli("list", what, "--json").stdout)
        assert entries
        assert all({"id", "operation"} <= set(entry) for entry in entries)


def test_there_are_eighteen_shuffles_in_three_frameworks_and_three_hundred_cases(cli):
    shuffles = json.loads(cli("list", "implementations", "channel_shuffle", "--json").stdout)
    assert len(shuffles) >= 18
    assert {entry["framework"] for entry in shuffles} == {"torch", "jax", "numpy"}
    assert len(cli("list", "cases", "channel_shuffle").stdout.splitlines()) >= 300


def test_clauses_are_listed_with_their_number_of_cases(cli):
    entries = {entry["id"]: entry for entry in json.loads(cli("list", "clauses", "--json").stdout)}
    assert all(entries[f"S{number}"]["cases"] > 0 for number in range(1, 18))
    assert entries["SA1"]["verdict"] == "contradicted"


def test_everything_that_is_listed_can_be_explained(cli):
    ids = [
        entry["id"]
        for what in ("implementations", "cases", "clauses", "mistakes")
        for entry in json.loads(cli("list", what, "--json").stdout)
    ]
    done = cli("explain", *ids)
    assert done.returncode == 0, done.stderr


def test_a_check_is_explained_with_the_line_that_runs_it(cli):
    check = "channel_shuffle/torch_module@cpu:identity-probe-f32-c12-g3"
    done = cli("explain", check)
    assert f"conformance run {check}" in done.stdout


def test_the_photograph_is_drawn_before_and_after(cli, tmp_path):
    done = cli("explain", "photographs-u8", "--picture", "shuffle.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shuffle.png").read_bytes().startswith(b"\x89PNG")


def test_version_and_help(cli):
    assert conformance.__version__ in cli("--version").stdout
    for command in ("run", "list", "explain", "regen", "report", "diff"):
        done = cli(command, "--help")
        assert done.returncode == 0
        assert f"conformance {command}" in done.stdout, "an example"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_broken_pipe_is_no_traceback_and_no_failure(tmp_path, encoding):
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"{sys.executable} -m conformance list cases | true; echo ${{PIPESTATUS[0]}}",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_case_names_are_safe_in_a_shell():
    import re

    assert all(re.fullmatch(r"[a-z0-9.-]+", case.name) for case in all_cases())


@pytest.mark.parametrize(
    "word",
    [
        *STATUSES, *(promise for promises in PROMISES.values() for promise in promises),
        "tier", "families", "W", "K", "n", "g", "spectrometer", "worlds", "grid", "bound",
        "Conforms", "quick", "cut short", "Nothing was tested", "below-half", "agreement", "bounds",
        "differs", "shows", "mistake", "done", "write", "reason", "rerun", "more", "precision",
        "places", "changed", "not tested", "one_process", "per_rank", "virtual", "channels_last",
    ],
)  # fmt: skip
def test_every_word_that_output_uses_is_explained(word):
    assert ": " in explain(word)


def test_json_is_one_object_with_the_verdict_and_the_failures(cli, tmp_path):
    wrong = ("run", "--adapter", WRONG, "channel_shuffle/wrong_inverse:identity-probe-f32-c*-g3")
    done = cli(*wrong, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["verdict"] == "fails"
    assert told["findings"][0]["mistakes"] == ["inverse-groups"]
    assert {f["status"] for f in told["failures"]} == {"fail"}
    changed = json.loads(cli("diff", "conformance-report", "conformance-report", "--json").stdout)
    compared = sum(told["counts"].values())
    assert changed == {"worse": False, "whole": True, "compared": compared, "changes": []}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("module", ["click", "numpy"])
def test_a_file_of_the_working_folder_hides_no_package(tmp_path, command, module):
    (tmp_path / f"{module}.py").write_text("raise RuntimeError\n")
    call = [*command, "list", "implementations"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("word", inspect.signature(conformance.implementation).parameters)
def test_every_argument_of_the_decorator_is_explained(word):
    assert explain(word).startswith(f"{word}")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("module", ["click", "numpy"])
def test_an_interruption_while_the_suite_is_imported_ends_it_without_a_traceback(
    tmp_path, command, module
):
    # The first module of others that is imported, and the first that takes long.
    (tmp_path / f"{module}.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = subprocess.run(
        [*command, "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interruption_that_is_ignored_stays_ignored(tmp_path, command):
    (tmp_path / "click.py").write_text(
        "import os, signal, sys\nos.kill(os.getpid(), signal.SIGINT)\nsys.exit(7)\n"
    )
    done = subprocess.run(
        [*command, "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.returncode == 7
