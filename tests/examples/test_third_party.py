"""Adapters of other people's packages; each is asked only where its package is."""

import importlib.util
import re
from pathlib import Path

import pytest

ADAPTERS = Path(__file__).parents[2] / "examples" / "third_party"
NEEDS = {
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
