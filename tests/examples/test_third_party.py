"""Adapters of other people's packages; each is asked only where its package is."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ADAPTERS = Path(__file__).parents[2] / "examples" / "third_party"
NEEDS = {
    "einops_rearrange": "einops",
    "mlx_shuffle": "mlx",
    "mindspore_channel_shuffle": "mindspore",
    "ncnn_shuffle_channel": "ncnn",
    "onnxruntime_shuffle": "onnx",
    "opencv_transpose": "cv2",
    "openvino_shuffle_channels": "openvino",
    "paddle_channel_shuffle": "paddle",
    "tensorflow_shuffle": "tensorflow",
    "tinygrad_shuffle": "tinygrad",
    "torchvision_shuffle": "torchvision",
    "pytorchcv_shuffle": "pytorchcv",
    "fabric_ddp": "lightning_fabric",
    "equinox_sharded": "equinox",
}


def test_each_adapter_says_what_it_needs_and_how_it_is_run():
    assert {path.stem for path in ADAPTERS.glob("*.py")} == set(NEEDS)
    for name in NEEDS:
        text = (ADAPTERS / f"{name}.py").read_text(encoding="utf-8")
        assert re.search(r"^pip install .*==\d", text, re.MULTILINE)
        assert f"conformance run --adapter examples/third_party/{name}.py" in text


@pytest.fixture
def table_of(monkeypatch):
    """The script that writes the table, which is in no package."""
    monkeypatch.syspath_prepend(str(ADAPTERS.parents[1] / "ci"))
    monkeypatch.delitem(sys.modules, "third_party", raising=False)
    return importlib.import_module("third_party")


def test_the_table_has_a_row_for_each_function_with_versions_and_what_does_not_conform(table_of):
    check = {"kind": "check", "implementation": "f", "status": "exact", "fits": []}
    raised = "raised KeyError at a.py:3, in einops/b.py:1: 'complex64'"
    checks = [
        check,
        {**check, "status": "fail", "fits": ["inverse-groups"]},
        *([{**check, "status": "error", "reason": raised}] * 2),
        {**check, "status": "unsupported"},
    ]
    header = {"kind": "header", "environment": {"packages": {"einops": "0.8.2"}}}
    [row] = table_of.rows(ADAPTERS / "einops_rearrange.py", [header, *checks])
    assert row == (
        "| [`f`](../examples/third_party/einops_rearrange.py) | einops 0.8.2 | 5 | 1 | 1 "
        "| 2 × error, `KeyError: 'complex64'`; 1 × `inverse-groups` |\n"
    )


def test_a_run_that_was_cut_short_has_no_row(table_of, tmp_path, monkeypatch):
    monkeypatch.setattr(table_of, "FOLDER", tmp_path)
    results = tmp_path / "results" / "einops_rearrange" / "results.jsonl"
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps({"kind": "header"}) + "\n")
    assert table_of.table() == table_of.HEAD


@pytest.mark.parametrize("name", NEEDS)
def test_what_is_not_installed_is_told_in_one_line(cli, name):
    if importlib.util.find_spec(NEEDS[name]):
        pytest.skip(f"{NEEDS[name]} is installed")
    done = cli("run", "--adapter", ADAPTERS / f"{name}.py")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"No module named '{NEEDS[name]}'" in line


@pytest.mark.parametrize("function", ["pytorchcv_shuffle2"])
def test_the_second_shuffle_is_named_the_inverse(cli, function):
    pytest.importorskip("pytorchcv", reason="pytorchcv is not installed")
    check = f"channel_shuffle/{function}:identity-probe-f32-c12-g3"
    done = cli("run", "--adapter", ADAPTERS / "pytorchcv_shuffle.py", check)
    assert done.returncode == 1
    assert "consistent with inverse-groups" in done.stdout
