"""`init` reads how people write a shuffle and an average, and calls each as it wants to be."""

import ast
from pathlib import Path

import pytest

from conformance.cli.init import _imports, _name_of
from conformance.cli.syntax import Shape, find
from conformance.cli.targets import wrapper
from conformance.core.outcomes import UsageError

FOUR = Shape(4)
SHUFFLES = [
    ("def f(x, groups): ...", "f", "code.f(x, groups)"),
    ("def f(groups, x): ...", "f", "code.f(groups, x)"),
    ("def f(a, b): ...", "f", "code.f(x, groups)"),
    ("def f(img, *, num_groups): ...", "f", "code.f(x, num_groups=groups)"),
    ("def f(x, dim=1, groups=4): ...", "f", "code.f(x, groups=groups)"),
    ("def f(data, group): ...", "f", "code.f(x, groups)"),
    ("def f(batch, groups): ...", "f", "code.f(x, groups)"),
    ("def f(state, batch): ...", "f", ""),
    ("async def f(x, groups): ...", "f", ""),
    ("def f(x, channels, groups): ...", "f", "code.f(x, x.shape[1], groups)"),
    ("@jit\ndef f(x, g, inplace=False): ...", "f", "code.f(x, groups)"),
    ("f = lambda x, g: x", "f", "code.f(x, groups)"),
    ("def h(x, g): ...\nf = jax.jit(h, static_argnums=1)", "f", "code.f(x, groups)"),
    ("def h(c, x, g): ...\nf = partial(h, 3)", "f", "code.f(x, groups)"),
    ("try:\n  import a\nexcept ImportError:\n  def f(x, g): ...", "f", "code.f(x, groups)"),
    (
        "class F:\n def __init__(self, groups): ...\n def forward(self, x): ...",
        "F",
        "code.F(groups)(x)",
    ),
    ("class F:\n def __init__(self, n, groups=2): ...", "F", ""),
    ("class F:\n def __init__(self, c, g): ...", "F", "code.F(x.shape[1], groups)(x)"),
    ("class F:\n def forward(self, x, g): ...", "F", "code.F()(x, groups)"),
    ("class F(nn.Module):\n groups: int\n def __call__(self, x): ...", "F", "code.F(groups)(x)"),
    ("class F:\n @staticmethod\n def s(x, g): ...", "F.s", "code.F.s(x, groups)"),
    ("class F:\n @classmethod\n def s(cls, x, g): ...", "F.s", "code.F.s(x, groups)"),
    ("class F:\n def s(self, x, g): return x", "F.s", "code.F.s(None, x, groups)"),
    ("class F:\n def s(self, x, g): return self.y", "F.s", "code.F().s(x, groups)"),
    ("class F:\n def __init__(self, n, m): ...\n def s(self, x, g): self", "F.s", ""),
]
LOOPS = [
    ("torch", "def f(model, loss_fn, loader, pg): ...", "code.f(model, loss, batches, group)"),
    ("torch", "def f(net, criterion, batches): ...", "code.f(model, loss, batches)"),
    ("torch", "def f(batches, *, model, loss): ...", "code.f(batches, model=model, loss=loss)"),
    ("torch", "def f(model, loss, data, devices): ...", "code.f(model, loss, batches, devices)"),
    ("torch", "def f(model): ...", "code.f(model)"),
    ("torch", "def f(params, world_size): ...", "code.f(list(model.parameters()), group.size())"),
    ("jax", "def f(params, loss_fn, batches): ...", "code.f(params, loss, batches)"),
    ("jax", "def f(model): ...", ""),
    ("jax", "def f(train_state, batch): ...", ""),
    ("jax", "def f(grads, opt_state): ...", ""),
    ("torch", "def f(model, batches): ...", ""),
    ("torch", "def f(): ...", ""),
]


def of(text, dotted, framework="torch"):
    tree = ast.parse(text)
    return wrapper(tree, *find(tree, dotted), dotted, framework)


@pytest.mark.parametrize(("text", "target", "call"), SHUFFLES)
def test_a_shuffle_is_called_as_it_is_written_or_refused(text, target, call):
    if not call:
        with pytest.raises(UsageError, match="write a function"):
            of(text, target)
        return
    wrapped = of(text, target)
    assert wrapped.operation == "channel_shuffle"
    assert wrapped.body == (f"return {call}",)


@pytest.mark.parametrize(("framework", "text", "call"), LOOPS)
def test_an_average_is_known_by_the_names_of_what_it_takes(framework, text, call):
    if not call:
        with pytest.raises(UsageError, match="write a function that is"):
            of(text, "f", framework)
        return
    wrapped = of(text, "f", framework)
    assert wrapped.operation == "gradient_mean"
    assert wrapped.body[-1].removeprefix("return ") == call


def test_a_loop_that_yields_is_asked_for_several_steps():
    assert of("def f(model, loss, windows, group):\n    yield", "f").steps == "several"


def test_what_flax_linen_makes_is_applied_without_weights():
    text = "class F(nn.Module):\n groups: int\n def __call__(self, x): ..."
    assert of(text, "F", "jax").body == ("return code.F(groups).apply({}, x)",)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("n, c, h, w = x.shape", FOUR),
        ("n, c, h, w = x.size()", FOUR),
        ("n, c, *s = x.shape", Shape()),
        ("n, c = x.shape[:2]", Shape()),
        ("n, h, w, c = x.shape", Shape(4, "channels_last")),
        ("h = x.shape[3]", FOUR),
        ("return x.view(n, g, -1, h, w).permute(0, 2, 1, 3, 4)", FOUR),
        ("return np.transpose(x, (0, 2, 1, 3, 4))", FOUR),
        ("return x.transpose(1, 2).flatten(1, 2)", Shape()),
        ("return helper(x)", FOUR),
    ],
)
def test_axes_that_code_counts_are_seen_also_in_what_it_calls(body, shape):
    text = f"def helper(x):\n    b, c, h, w = x.shape\ndef f(x, groups):\n    {body}\n"
    assert of(text, "f").shape == shape


def test_a_file_whose_name_means_something_else_is_imported_by_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my-model.py", "two words.py", "test.py", "numpy.py", "class.py"):
        assert f"with_name('{name}')" in _imports(Path(name), "f", False)
    assert _imports(Path("model.py"), "f", True).splitlines() == [
        "import conformance",
        "import model as code",
        "import torch",
    ]
    assert "import layers.shuffle as code" in _imports(Path("layers/shuffle.py"), "f", False)
    with pytest.raises(UsageError, match="go to its folder first"):
        _imports(Path("numpy/shuffle.py"), "f", False)


def test_a_name_that_the_suite_or_the_adapter_has_becomes_mine():
    assert _name_of("channel_shuffle", "torch_reshape") == "my_torch_reshape"
    assert _name_of("channel_shuffle", "code") == "my_code"
    assert _name_of("channel_shuffle", "Net.shuffle") == "Net_shuffle"
