"""What is wrong with a call of `conformance compare` is one line, and exit status 2."""

import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("flax", reason="flax is not installed")

from conformance.cli import main
from conformance.compare import own_process

HERE = Path(__file__).parent
FIRST = f"torch:{HERE}/originals.py:normed"
SECOND = f"jax:{HERE}/ports.py:normed"


@pytest.fixture
def call(monkeypatch, capsys):
    def called(*arguments: str) -> tuple[int, str, str]:
        # What a fork prints is in its own memory, and no reader of this process gets it.
        monkeypatch.setattr(own_process, "enter", lambda: sys.exit)
        monkeypatch.setattr("sys.argv", ["conformance", "compare", *arguments])
        status = 0
        try:
            main()
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return called


def torch_of(name: str) -> str:
    return f"torch:{HERE}/originals.py:{name}"


BAD = {
    "no such file": (f"torch:{HERE}/missing.py:f", SECOND, "6,5", "missing.py: no such file"),
    "no such module": ("torch:no.such.module:f", SECOND, "6,5", "no.such.module does not import"),
    "no such factory": (torch_of("nothing"), SECOND, "6,5", "has no function nothing"),
    "no function": (torch_of("value"), SECOND, "6,5", "has no function value"),
    "arguments": (torch_of("with_argument"), SECOND, "6,5", "takes arguments"),
    "raises": (torch_of("raises"), SECOND, "6,5", "ValueError: no such checkpoint"),
    "no model": (torch_of("no_model"), SECOND, "6,5", "gave object, not torch.nn.Module"),
    "a model itself": (torch_of("model"), SECOND, "6,5", "model is a model itself; name a"),
    "no weights": (torch_of("no_weights"), SECOND, "6,5", "no submodule in common"),
    "another framework": ("keras:mine:f", SECOND, "6,5", "'keras:mine:f' names no model"),
    "nothing in common": (FIRST, f"jax:{HERE}/ports.py:wide", "6,5", "no submodule in common"),
    "a weight without a place": (
        FIRST, f"jax:{HERE}/ports.py:more_outputs", "6,5", "down.weight [3, 16]",
    ),
    "another input": (FIRST, SECOND, "6,7", "does not run on inputs [[6, 7]]"),
    "a port that raises": (FIRST, f"jax:{HERE}/ports.py:bad", "6,5", "does not run on inputs"),
    "no shape": (FIRST, SECOND, "6,five", "--input '6,five'"),
    "an empty axis": (FIRST, SECOND, "0,5", "at least one element"),
    "a cause that nobody knows": (
        FIRST, SECOND, "6,5 --allow biased-variance", "nearest: biased-running-variance",
    ),
    "no array": (FIRST, SECOND, "missing.npy", "--input missing.npy: cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_call_is_one_line_that_says_what_is_wrong(call, name):
    first, second, shape, words = BAD[name]
    status, out, err = call(first, second, "--input", *shape.split())
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert err.startswith("conformance: ")


# Of models that do something which cannot be compared, one line each that says what.
ODD = """
import sys
import jax
import jax.numpy as jnp
import flax.linen as nn
import torch

class Torch(torch.nn.Module):
    def __init__(self, after):
        super().__init__()
        self.layer, self.after = torch.nn.Linear(4, 3), after

    def forward(self, x):
        return self.after(self.layer(x))

class Flax(nn.Module):
    after: object

    @nn.compact
    def __call__(self, x):
        return self.after(nn.Dense(3, name="layer")(x))

def written(y):
    y = y.clone()
    y[:, 0] = 0
    y.mul_(2)
    return y / 2

@torch.library.custom_op("conformance_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x

doubled.register_autograd(lambda ctx, g: 2 * g)

def switched_off():
    jax.config.update("jax_enable_x64", False)
    return Flax(lambda y: y)

def large(y):
    return (200 * y).exp().sin()

plain, in_place = lambda: Torch(lambda y: y), lambda: Torch(written)
branch = lambda: Torch(lambda y: y if y.sum() > 0 else -y)
outside = lambda: Torch(lambda y: torch.from_numpy(y.detach().numpy() * 1))
noise = lambda: Torch(lambda y: y + torch.randn_like(y))
nan, leaves = lambda: Torch(lambda y: y * float("nan")), lambda: Torch(lambda y: sys.exit(0))
two, text = lambda: Torch(lambda y: (y, y)), lambda: Torch(lambda y: "y")
kernel, chaos = lambda: Torch(doubled), lambda: Torch(large)
flax, flax_branch = lambda: Flax(lambda y: y), lambda: Flax(lambda y: y if y.sum() > 0 else -y)
flax_noise = lambda: Flax(lambda y: y + jax.random.normal(jax.random.key(0), y.shape))
flax_leaves = lambda: Flax(lambda y: sys.exit(0))
"""
REFUSED = {
    "control flow on values": ("torch:branch", "jax:flax", "decides in Python by a value"),
    "control flow in JAX": ("torch:plain", "jax:flax_branch", "TracerBoolConversionError"),
    "arrays taken out of torch": ("torch:plain", "torch:outside", "takes a tensor out of torch"),
    "a random draw": ("torch:noise", "jax:flax", "for want of a rule for a random draw"),
    "a random draw in JAX": ("torch:plain", "jax:flax_noise", "for a random draw"),
    "a kernel of their own": ("torch:kernel", "torch:kernel", "conformance_tests::doubled"),
    "NaN": ("torch:nan", "torch:nan", "output is NaN at 6 of 6 places"),
    "a model that exits": ("torch:plain", "torch:leaves", "left the program (SystemExit 0)"),
    "a Flax model that exits": ("torch:plain", "jax:flax_leaves", "left the program"),
    "more outputs": ("torch:plain", "torch:two", "outputs have another structure"),
    "no array": ("torch:plain", "torch:text", "output is str, which is no array"),
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "odd_models.py"
    path.write_text(ODD)
    return lambda said: said.replace(":", f":{path}:")


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_compared_is_refused_in_one_line(call, odd, name):
    first, second, words = REFUSED[name]
    status, out, err = call(odd(first), odd(second), "--input", "2,4")
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_writes_in_place_and_float64_switched_off_are_compared_all_the_same(call, odd):
    assert call(odd("torch:in_place"), odd("torch:in_place"), "--input", "2,4")[0] == 0
    assert call(odd("torch:plain"), odd("jax:switched_off"), "--input", "2,4")[0] == 0


def test_an_error_that_has_grown_too_large_is_no_agreement(call, odd):
    _, out, err = call(odd("torch:chaos"), odd("torch:chaos"), "--input", "2,4")
    assert "not judged: forward output" in out + err.replace("; forward", "; not judged: forward")
    assert "agree: forward and gradient\n" not in out


def test_an_input_without_rows_is_refused(call, tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 5)))
    status, out, err = call(FIRST, SECOND, "--input", str(tmp_path / "none.npy"))
    assert (status, out) == (2, "")
    assert "an input has no elements" in err


def test_a_module_that_raises_as_it_is_imported_is_named(call, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    status, _, err = call(f"torch:{tmp_path}/broken.py:f", SECOND, "--input", "6,5")
    assert status == 2
    assert "ZeroDivisionError" in err


LEAVING = {
    "os._exit(0)": "a model ended the process that runs it: exit status 0",
    "os.kill(os.getpid(), 9)": "a model ended the process that runs it: SIGKILL",
    "sys.exit(0)": "the model left the program (SystemExit 0)",
    "raise GeneratorExit": "does not run on inputs [[2, 4]]",
    "return self.layer(x) * float('nan')": "output is NaN at 6 of 6 places",
    "threading.Thread(target=time.sleep, args=(600,)).start(); return self.layer(x)": "",
}


@pytest.mark.parametrize("lines", LEAVING)
def test_a_model_that_leaves_agrees_with_nothing(cli, tmp_path, lines):
    (tmp_path / "leaving.py").write_text(
        "import os, sys, threading, time, torch\n"
        "class Leaving(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(4, 3)\n"
        "    def forward(self, x):\n"
        f"        {lines}\n"
    )
    model = f"torch:{tmp_path}/leaving.py:Leaving"
    done = cli("compare", model, model, "--input", "2,4")
    if words := LEAVING[lines]:
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    else:
        assert done.returncode == 0, done.stderr
        assert "agree: forward and gradient" in done.stdout


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("raise GeneratorExit", "the factory raised GeneratorExit"),
        (
            "m = torch.nn.Linear(4, 3); m._modules['own'] = m; return m",
            "is no model: Recursion",
        ),
    ],
)
def test_what_a_factory_does_instead_of_a_model_is_one_line(call, tmp_path, lines, words):
    (tmp_path / "made.py").write_text(f"import torch\ndef f():\n    {lines}\n")
    status, _, err = call(f"torch:{tmp_path}/made.py:f", SECOND, "--input", "2,4")
    assert status == 2
    assert words in err
    assert err.count("\n") == 1


def test_what_a_model_prints_stands_in_no_answer(call, tmp_path):
    (tmp_path / "talks.py").write_text(
        "import torch\n"
        "class Talks(torch.nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(4, 3, bias=False)\n"
        "    def forward(self, x):\n"
        "        print('hello')\n"
        "        return super().forward(x)\n"
    )
    sides = (f"torch:{tmp_path}/talks.py:Talks",) * 2
    status, out, err = call(*sides, "--input", "2,4")
    assert status == 0, err
    assert "hello" in err
    assert "hello" not in out
    assert "1 weight of 1 module mapped" in out
    status, out, err = call(*sides, "--input", "2,4", "--write-map", "-")
    assert status == 0, err
    assert tomllib.loads(out)


def test_outputs_of_unequal_shapes_are_told_with_what_parts_first(call, tmp_path):
    (tmp_path / "port.py").write_text(
        "import flax.linen as nn\n"
        "class Port(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n"
        "        x = nn.Dense(16, name='up')(x)\n"
        "        x = nn.tanh(nn.LayerNorm(epsilon=1e-3, name='norm')(x))\n"
        "        return nn.Dense(3, name='down')(x)[:, :2]\n"
    )
    status, _, err = call(FIRST, f"jax:{tmp_path}/port.py:Port", "--input", "6,5")
    assert status == 2
    assert "unequal shapes" in err
    assert "gives [6, 3]" in err
    assert "gives [6, 2]" in err
    assert "parts first at norm" in err


def test_they_agree_with_0_and_part_with_1(call):
    status, out, _ = call(FIRST, SECOND, "--input", "6,5")
    assert status == 0
    assert "agree: forward and gradient" in out
    status, out, _ = call(FIRST, f"jax:{HERE}/ports.py:flax_epsilon", "--input", "6,5")
    assert status == 1
    assert "parts at norm, forward: default-epsilon" in out
    assert "\x1b" not in out


def test_what_is_allowed_is_told_and_does_not_count(call):
    second = f"jax:{HERE}/ports.py:flax_epsilon"
    status, out, _ = call(FIRST, second, "--input", "6,5", "--allow", "default-epsilon")
    assert status == 0
    assert "allowed: norm, forward: default-epsilon" in out


def test_a_written_map_is_read_again_and_an_edited_one_counts(call, tmp_path):
    path = tmp_path / "map.toml"
    assert call(FIRST, SECOND, "--input", "6,5", "--write-map", str(path))[0] == 0
    assert call(FIRST, SECOND, "--input", "6,5", "--map", str(path))[0] == 0
    text = path.read_text()
    assert call(FIRST, SECOND, "--input", "6,5", "--write-map", "-")[1] == text
    up = 'to = "params/up/bias"'
    norm = 'to = "params/norm/bias"'
    path.write_text(text.replace(up, "to = @").replace(norm, up).replace("to = @", norm))
    status, out, _ = call(FIRST, SECOND, "--input", "6,5", "--map", str(path))
    assert status == 1
    assert "parts at up" in out


MAPS = {
    "missing": (None, "No such file"),
    "no TOML": ("[[weight", "is not TOML"),
    "empty": ("", "has no [[weight]]"),
    "half an entry": ('[[weight]]\nfrom = "up.weight"\n', ":1: 'to' is missing"),
    "a name that is not there": (
        '[[weight]]\nfrom = "up.w"\nto = "params/up/kernel"\n', "no weight 'up.w'",
    ),
    "another shape": (
        '[[weight]]\nfrom = "up.weight"\nto = "params/up/kernel"\ntranspose = [0, 1]\n',
        "up.weight [16, 5] transposed by [0, 1] is not [5, 16]",
    ),
    "no order of axes": (
        '[[weight]]\nfrom = "up.weight"\nto = "params/up/kernel"\ntranspose = [0, 2]\n',
        "is no order of 2 axes",
    ),
    "a weight left out": (
        '[[weight]]\nfrom = "up.weight"\nto = "params/up/kernel"\ntranspose = [1, 0]\n',
        "weights cannot be mapped: up.bias [16]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_a_map_that_is_wrong_is_one_line(call, tmp_path, name):
    text, words = MAPS[name]
    path = tmp_path / "map.toml"
    if text is not None:
        path.write_text(text)
    status, _, err = call(FIRST, SECOND, "--input", "6,5", "--map", str(path))
    assert status == 2
    assert words in err
    assert err.count("\n") == 1
