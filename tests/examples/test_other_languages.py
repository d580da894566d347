"""A program of another language reads the goldens by their description alone."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDENS = ROOT / "conformance" / "goldens"
PROGRAM = ROOT / "examples" / "other_languages" / "shuffle.mjs"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not on this machine")


def run(*arguments, program=PROGRAM):
    return subprocess.run(["node", program, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def copied(tmp_path):
    """A folder of goldens that may be spoilt."""
    return shutil.copytree(GOLDENS, tmp_path / "goldens")


def test_it_shuffles_and_every_bit_is_equal():
    done = run(GOLDENS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 200
    assert " 0 differ" in done.stdout


def test_a_shuffle_that_is_wrong_is_told(tmp_path):
    right = PROGRAM.read_text(encoding="utf-8")
    wrong = right.replace("(i % groups) * (channels / groups) + Math.floor(i / groups)", "i")
    assert wrong != right
    (tmp_path / "wrong.mjs").write_text(wrong, encoding="utf-8")
    done = run(GOLDENS, "identity-probe-f32-c6-g2", program=tmp_path / "wrong.mjs")
    assert done.returncode == 1
    assert "differs: identity-probe-f32-c6-g2" in done.stdout


def test_a_changed_byte_is_told(copied):
    file = copied / "channel_shuffle-grid.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    done = run(copied)
    assert done.returncode == 2
    assert "has other bytes than the manifest says" in done.stderr


def test_another_format_is_not_read(copied):
    manifest = copied / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace('"format": 2', '"format": 3', 1), encoding="utf-8")
    done = run(copied)
    assert done.returncode == 2
    assert "format 3" in done.stderr


def test_an_unknown_case_is_told():
    done = run(GOLDENS, "nope")
    assert done.returncode == 2
    assert "no case of channel shuffle is called nope" in done.stderr


def test_it_is_short_and_needs_no_library():
    lines = PROGRAM.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 80
    imports = [line for line in lines if line.startswith("import ")]
    assert imports
    assert all('"node:' in line for line in imports)
