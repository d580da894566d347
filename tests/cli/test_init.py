"""`init` writes an adapter and a test for a function of one's own, and asks it at once."""

import subprocess
import sys

import pytest

SHUFFLE = """
import numpy as np

def my_shuffle(x, g):
    n, c, *spatial = x.shape
    if g <= 0 or c % g:
        raise ValueError(g)
    return x.reshape(n, {first}, {second}, *spatial).swapaxes(1, 2).reshape(x.shape).copy()

class Shuffle:
    def __init__(self, groups):
        self.groups = groups

    def __call__(self, x):
        return my_shuffle(x, self.groups)

def average(gradients):
    return sum(gradients) / len(gradients)
"""
DECLARED = """
import conformance

@conformance.implementation("channel_shuffle", framework="numpy")
def f(x, groups): ...
"""
DECLARED_BY_NAME = DECLARED.replace(
    "import conformance", "from conformance import implementation"
).replace("@conformance.", "@")
RIGHT = SHUFFLE.format(first="g", second="c // g")
WRONG = SHUFFLE.format(first="c // g", second="g")


@pytest.mark.parametrize("target", ["model.py:my_shuffle", "model.py:Shuffle", "numpy.py:Shuffle"])
def test_a_right_function_or_class_conforms_and_so_does_its_test(cli, tmp_path, target):
    (tmp_path / target.partition(":")[0]).write_text(RIGHT)
    done = cli("init", target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Conforms, quick: " in done.stdout
    assert "channel_shuffle numpy" in done.stdout
    call = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "test_conformance.py",
    ]
    tested = subprocess.run(
        [*call, "test_conformance.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "1 passed" in tested.stdout, tested.stdout


def test_a_wrong_function_is_named_at_once(cli, tmp_path):
    (tmp_path / "model.py").write_text(WRONG)
    done = cli("init", "model.py:my_shuffle")
    assert done.returncode == 1
    assert "inverse-groups" in done.stdout


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("model.py:nothing", "has no function or class nothing"),
        ("model.py:average", "average(gradients) is none of (x, groups)"),
        ("missing.py:f", "cannot be read"),
        ("model:f", "FILE.py:NAME is meant"),
        ("../model.py:f", "go to its folder first"),
        ("elsewhere/model.py:f", "cannot be read"),
        ("model.py:Shuffle.nothing", "has no method nothing"),
        ("broken.py:f", "is no Python"),
        ("imports.py:f", "imports f from .layers: name the file that defines it"),
        ("waits.py:f", "f is async: write a function that awaits it"),
        ("yields.py:f", "f yields: write a function that returns"),
        ("both.py:f", "say which with --framework"),
        ("declared.py:f", "conformance run --adapter declared.py"),
        ("declared_by_name.py:f", "conformance run --adapter declared_by_name.py"),
    ],
)
def test_what_cannot_be_begun_is_one_line_and_nothing_is_written(cli, tmp_path, target, words):
    (tmp_path / "model.py").write_text(RIGHT)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "imports.py").write_text("from .layers import g as f\n")
    (tmp_path / "waits.py").write_text("async def f(x, groups): ...\n")
    (tmp_path / "yields.py").write_text("def f(x, groups):\n    yield x\n")
    (tmp_path / "both.py").write_text("import jax, torch\ndef f(x, groups): ...\n")
    (tmp_path / "declared.py").write_text(DECLARED)
    (tmp_path / "declared_by_name.py").write_text(DECLARED_BY_NAME)
    done = cli("init", target)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "conformance_adapter.py").exists()


def test_nothing_is_written_over(cli, tmp_path):
    (tmp_path / "model.py").write_text(RIGHT)
    (tmp_path / "test_conformance.py").write_text("mine\n")
    done = cli("init", "model.py:my_shuffle")
    assert done.returncode == 2
    assert "test_conformance.py: is here already" in done.stderr
    assert (tmp_path / "test_conformance.py").read_text() == "mine\n"
    assert not (tmp_path / "conformance_adapter.py").exists()


def test_an_average_is_known_by_its_parameters(cli, tmp_path):
    (tmp_path / "train.py").write_text("import torch\ndef mean(model, loss, batches, group): ...\n")
    cli("init", "train.py:mean")
    text = (tmp_path / "conformance_adapter.py").read_text()
    assert (
        '@conformance.implementation("gradient_mean", framework="torch", runs="per_rank")' in text
    )
    assert "return code.mean(model, loss, batches, group)" in text


def test_a_shuffle_of_images_alone_is_asked_of_images(cli, tmp_path):
    (tmp_path / "model.py").write_text(
        "import torch\n"
        "def shuffle(x, groups):\n"
        "    b, c, h, w = x.size()\n"
        "    x = x.view(b, groups, c // groups, h, w)\n"
        "    return x.transpose(1, 2).contiguous().view(b, c, h, w).clone()\n"
    )
    done = cli("init", "model.py:shuffle")
    assert "ndim=4" in (tmp_path / "conformance_adapter.py").read_text()
    assert done.returncode == 0, done.stdout
    assert "unsupported" in done.stdout
