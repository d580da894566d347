"""The command that begins: it writes an adapter and a test for a function, and asks it."""

import ast
import keyword
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import click

from conformance.cli.options import say
from conformance.cli.run import run
from conformance.cli.syntax import find
from conformance.cli.targets import Wrapper, wrapper
from conformance.core.implementations import is_declaration, own
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import read_text

ADAPTER, TEST = "conformance_adapter.py", "test_conformance.py"
_FRAMEWORKS = {"torch": "torch", "jax": "jax", "flax": "jax", "equinox": "jax"}
_ADAPTER = '''"""Hands `{name}` of {file} to the conformance suite."""

{imports}


@conformance.implementation({declared})
def {own}({parameters}):
    {body}
'''
_BY_FILE = """import sys
from importlib import util
from pathlib import Path

import conformance

# A file of this name is imported by its place.
_spec = util.spec_from_file_location("of_{own}", Path(__file__).with_name({file!r}))
code = sys.modules["of_{own}"] = util.module_from_spec(_spec)
_spec.loader.exec_module(code)"""
_TEST = '''"""`{name}` conforms: few cases are asked, which no known mistake passes."""

import subprocess
import sys
from pathlib import Path


def test_{own}_conforms(tmp_path):
    call = [sys.executable, "-P", "-m", "conformance", "run", "--adapter", "{adapter}"]
    call += ["--quick", "--report", str(tmp_path)]
    here = Path(__file__).parent
    done = subprocess.run(call, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
'''


@click.command()
@click.argument("target", metavar="FILE.py:NAME")
@click.option(
    "--framework", type=click.Choice(["torch", "jax", "numpy"]),
    help="Whose arrays it takes; what the file imports says so, if it imports one of them.",
)  # fmt: skip
@click.pass_context
def init(context: click.Context, target: str, framework: str | None) -> None:
    """Write an adapter and a test for a function or a module class, and ask it few questions.

    A channel shuffle is a function of (x, groups), or a class that is made of groups. An average of
    gradients is one of (model, loss, batches, group), of (model, loss, batches, devices) or of
    (loss, params, batches, devices), or what torch calls after backward, of (model).

    \b
    conformance init model.py:channel_shuffle
    conformance init layers/shuffle.py:ShuffleBlock
    conformance init model.py:ShuffleNet.shuffle
    conformance init train.py:average_gradients

    Exit status: as of `conformance run --quick`; 2 where nothing was written.
    """
    file, _, name = target.rpartition(":")
    if not file.endswith(".py") or not all(word.isidentifier() for word in name.split(".")):
        raise UsageError(f"{target}: FILE.py:NAME is meant, as in model.py:channel_shuffle")
    path = Path(file)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"{file}: go to its folder first, where the two files are to stand")
    tree = _tree(path)
    framework = framework or _framework_of(tree, file)
    try:
        node, owner = find(tree, name)
        if any(map(is_declaration, getattr(node, "decorator_list", []))):
            raise UsageError(f"declares {name} itself: conformance run --adapter {file}")
        wrapped = wrapper(tree, node, owner, name, framework)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
    texts = _texts(path, name, wrapped, framework)
    for written in texts:
        if Path(written).exists():
            ask = f"conformance run --adapter {ADAPTER}"
            raise UsageError(
                f"{written}: is here already; move it away, or ask what is there: {ask}"
            )
    for written, text in texts.items():
        try:
            Path(written).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{written}: cannot be written ({error.strerror})") from error
        say(f"wrote {written}")
    say(f"to ask it by `conformance run` alone: [tool.conformance] adapters = [{ADAPTER!r}]")
    context.invoke(run, adapters=(ADAPTER,), quick=True)


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(read_text(path, str(path)), str(path))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is no Python ({error})") from error


def _framework_of(tree: ast.Module, file: str) -> str:
    """Returns the framework that a file imports, which is NumPy where it imports no other."""
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append(node.module or "")
    packages = {name.partition(".")[0] for name in imports}
    frameworks = {_FRAMEWORKS[package] for package in packages if package in _FRAMEWORKS}
    if len(frameworks) > 1:
        raise UsageError(f"{file}: imports torch and jax: say which with --framework")
    return next(iter(frameworks), "numpy")


def _texts(path: Path, dotted: str, wrapped: Wrapper, framework: str) -> dict[str, str]:
    """Returns the text of the adapter and of the test, by their names."""
    own_name = _name_of(wrapped.operation, dotted)
    declared = [f'"{wrapped.operation}"', f'framework="{framework}"']
    declared += ['runs="per_rank"'] if wrapped.runs == "per_rank" else []
    declared += [f"ndim={wrapped.shape.ndim}"] if wrapped.shape.ndim else []
    declared += [f'layout="{wrapped.shape.layout}"'] if wrapped.shape.layout else []
    declared += [f'steps="{wrapped.steps}"'] if wrapped.steps else []
    words = {"name": dotted, "file": str(path), "own": own_name, "adapter": ADAPTER}
    words |= {"declared": ", ".join(declared), "parameters": ", ".join(wrapped.parameters)}
    words["body"] = "\n    ".join(wrapped.body)
    words["imports"] = _imports(path, own_name, "torch." in words["body"])
    return {ADAPTER: _ADAPTER.format(**words), TEST: _TEST.format(**words)}


def _name_of(operation: str, dotted: str) -> str:
    """Returns a name for the implementation that neither the suite nor the adapter has."""
    name = dotted.replace(".", "_")
    taken = {implementation.id for implementation in own()}
    if f"{operation}/{name}" in taken or name in ("code", "conformance", "torch", "sys", "util"):
        return f"my_{name}"
    return name


def _imports(path: Path, own_name: str, with_torch: bool) -> str:
    """Returns the lines that import the code, by its file where its name means something else.

    Raises:
        UsageError: if it is part of a package that the working folder is inside of.
    """
    module = ".".join(path.with_suffix("").parts)
    top = path.with_suffix("").parts[0]
    words = module.split(".")
    is_free = all(word.isidentifier() and not keyword.iskeyword(word) for word in words)
    if is_free and not _means_another(top):
        lines = ["import conformance", f"import {module} as code", *["import torch"] * with_torch]
        return "\n".join(lines)
    if len(words) > 1:
        raise UsageError(
            f"{path}: cannot be imported as {module} from here: go to its folder first"
        )
    return _BY_FILE.format(own=own_name, file=path.name) + "\nimport torch" * with_torch


def _means_another(module: str) -> bool:
    """Says whether a module of this name would be imported from elsewhere."""
    here = {"", str(Path.cwd())}
    elsewhere = [folder for folder in sys.path if folder not in here]
    return module in sys.stdlib_module_names or PathFinder.find_spec(module, elsewhere) is not None
