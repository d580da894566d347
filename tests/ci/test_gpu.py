"""`ci/gpu`: one command for a machine that can fetch nothing, and here one that has no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.run.results import read

ROOT = Path(__file__).parents[2]
SHUFFLES = "channel_shuffle/numpy_*:grid-c6-*"


@pytest.fixture
def kit(tmp_path):
    def call(*arguments, python=sys.executable, **environment):
        return subprocess.run(
            ["bash", str(ROOT / "ci" / "gpu"), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHON": python, "CUDA_VISIBLE_DEVICES": "", **environment},
            capture_output=True,
            text=True,
            timeout=200,
        )

    return call


def test_without_a_gpu_one_line_says_what_is_missing_and_one_what_can_be_done(kit, tmp_path):
    done = kit(SHUFFLES)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line != "starting the frameworks"]
    assert lines == [
        "conformance: no device cuda here; there is cpu (numpy); numpy has the CPU alone",
        "ci/gpu: --device cpu asks what can be asked without a GPU",
    ]
    assert not (tmp_path / "conformance-gpu").exists(), "nothing that looks like a result"


def test_it_leaves_one_folder_to_send_back(kit, tmp_path):
    done = kit("--device", "all", SHUFFLES, "channel_shuffle/torch_module:*probe*", "--to", "back")
    assert done.returncode == 0, done.stderr
    assert "send back the folder back" in done.stderr
    folder = tmp_path / "back"
    names = {path.name for path in folder.iterdir()}
    assert {"environment.json", "results.jsonl", "summary.md", "summary.txt"} <= names
    assert "cache" not in names, "compiled code is of use here alone"
    run = read(folder)
    assert run.footer["conforms"]
    assert (folder / "summary.txt").read_text() == done.stdout
    told = json.loads((folder / "environment.json").read_text())
    assert told["run"] == run.header["environment"]
    assert told["run"]["precision"]["matmul_bits torch cpu"] == "f64 53, f32 24, f16 11, bf16 8"
    assert told["packages"]["torch"]
    assert {call.partition(" ")[0] for call in told["told"]} == {"nvidia-smi", "nvcc"}


def test_the_environment_tells_what_chooses_kernels_and_not_who_ran_it(kit, tmp_path):
    done = kit(
        "--device",
        "cpu",
        SHUFFLES,
        NVIDIA_TF32_OVERRIDE="0",
        GITHUB_TOKEN="not told",
        USER="nobody",
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "conformance-gpu" / "environment.json").read_text()
    assert json.loads(text)["variables"]["NVIDIA_TF32_OVERRIDE"] == "0"
    assert "not told" not in text
    assert "nobody" not in text


def test_arguments_behind_two_dashes_go_to_the_run(kit, tmp_path):
    done = kit("--device", "cpu", SHUFFLES, "--", "--shard", "1/2", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "conformance-gpu").header["shard"] == "1/2"


def test_a_python_without_what_the_suite_needs_is_told_in_one_line(kit, tmp_path):
    """One of the same version with nothing installed, as it is without `site`."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    done = kit(SHUFFLES, python=str(bare), PYTHONPATH="")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("ci/gpu: ")
    assert line.endswith(
        "lacks click, ml-dtypes, msgspec, numpy, packaging, rich, safetensors, torch or jax"
    )


def test_no_python_at_all_is_told_in_one_line(kit):
    done = kit(python="/nowhere/python")
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "Traceback" not in done.stderr
