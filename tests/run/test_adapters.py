"""Whatever an adapter does, it is judged; no traceback of ours, and the next check runs."""

import pytest

from conformance.run.results import read

HEAD = '@conformance.implementation("channel_shuffle", framework="{framework}")\n'
PATTERN = "channel_shuffle/mine:grid-c6-g*"


def body(lines, framework="numpy"):
    code = "".join(f"    {line}\n" for line in lines.split("\n"))
    return f"{HEAD.format(framework=framework)}def mine(x, groups):\n{code}"


def run(cli, file, tmp_path, *more):
    done = cli("run", PATTERN, "--adapter", file, *more)
    assert "Traceback" not in done.stderr, done.stderr
    return done, read(tmp_path / "conformance-report").records


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        ("raise ValueError('not today')", "error", "raised ValueError at mine.py:5: not today"),
        ("return None", "error", "gave NoneType, not numpy.ndarray"),
        ("return x.tolist()", "error", "gave list, not numpy.ndarray"),
        ("return (y for y in x)", "error", "gave generator, not numpy.ndarray"),
        ("return x[:, :1]", "fail", "output: expected shape [2, 6, 3], given [2, 1, 3]"),
        ("return x.astype('f8')", "fail", "output: expected dtype float32, given float64"),
        ("raise SystemExit(0)", "error", "raised SystemExit"),
        ("import sys; sys.exit('bye')", "error", "raised SystemExit"),
        ("raise KeyboardInterrupt", "error", "raised KeyboardInterrupt"),
        ("import os; os._exit(3)", "crash", "3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "crash", "SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "crash", "SIGSEGV"),
        ("print('out'); import sys; print('err', file=sys.stderr); return x", "exact", ""),
    ],
)
def test_what_an_implementation_does_is_its_own_verdict(
    cli, adapter, tmp_path, lines, status, words
):
    done, records = run(cli, adapter(body(lines)), tmp_path)
    first = records[0]  # g = 1: the input itself has the right values
    assert first.id.endswith("grid-c6-g1")
    assert first.status == status, first.reason
    assert words in first.reason
    assert len(records) == 4, "every other check was asked too"
    assert done.returncode == 1


def test_an_endless_loop_is_a_timeout_that_says_where(cli, adapter, tmp_path):
    lines = "if groups == 2:\n    while True: pass\nreturn x"
    _, records = run(cli, adapter(body(lines)), tmp_path, "--timeout", "2")
    assert [r.status for r in records] == ["exact", "timeout", "fail", "exact"]
    assert "mine.py:6, in mine" in records[1].reason


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("return x.to('meta')", "gave a tensor on meta, not on cpu"),
        ("return x.numpy()", "gave ndarray, not torch.Tensor"),
        ("return x.to_sparse()", ""),
        ("import torch; return torch.nn.Parameter(x)", ""),
    ],
)
def test_torch_answers_that_are_no_plain_tensor_on_the_device(cli, adapter, tmp_path, lines, words):
    _, records = run(cli, adapter(body(lines, "torch")), tmp_path)
    assert words in records[0].reason
    assert records[0].status == ("exact" if "Parameter" in lines else "error"), records[0].reason


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("import numpy; return numpy.asarray(x)", "Tracer"),
        ("return lambda: x", "function"),
        ("return x if groups.shape else x", "AttributeError"),
    ],
)
def test_jax_answers_that_cannot_be_traced(cli, adapter, tmp_path, lines, words):
    _, records = run(cli, adapter(body(lines, "jax")), tmp_path)
    assert records[0].status == "error"
    assert words in records[0].reason


def test_an_adapter_without_its_package_is_unsupported(cli, adapter, tmp_path):
    file = adapter(body("import no_such_package; return x"))
    _, records = run(cli, file, tmp_path)
    assert records[0].status in ("error", "unsupported")
    assert "no_such_package" in records[0].reason


def test_an_adapter_that_is_given_twice_is_one(cli, adapter, tmp_path):
    file = adapter(body("return x.copy()"))
    (tmp_path / "link.py").symlink_to(file)
    for other in ("mine.py", "./mine.py", file, "link.py"):
        done = cli("run", "*/mine:grid-c6-g1", "--adapter", "mine.py", "--adapter", other)
        assert "Conforms: 1 exact" in done.stdout, done.stderr
        assert "1 check, about" in done.stderr
