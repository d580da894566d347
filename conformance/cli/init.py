"""The command that begins: it writes an adapter and a test for a function, and asks it."""

import ast
from pathlib import Path

import click

from conformance.cli.options import say
from conformance.cli.run import run
from conformance.core.contract import CONTRACTS, names_of
from conformance.core.implementations import is_declaration
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import read_text

ADAPTER, TEST = "conformance_adapter.py", "test_conformance.py"
_FRAMEWORKS = {"torch": "torch", "jax": "jax", "flax": "jax"}
_ADAPTER = '''"""Hands `{name}` of {file} to the conformance suite."""

import conformance
import {module} as code


@conformance.implementation({declared})
def {own}({parameters}):
    return code.{call}
'''
_TEST = '''"""`{name}` conforms: few cases are asked, which no known mistake passes."""

import subprocess
import sys
from pathlib import Path


def test_{own}_conforms(tmp_path):
    call = [sys.executable, "-m", "conformance", "run", "--quick", "--report", str(tmp_path)]
    call += ["--adapter", "{adapter}"]
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

    A channel shuffle is a function of (x, groups), or a class that is called with groups. An
    average of gradients is one of (model, loss, batches, group), of (model, loss, batches, devices)
    or of (loss, params, batches, devices): `conformance explain` has their contracts.

    \b
    conformance init model.py:channel_shuffle
    conformance init train.py:average_gradients --framework jax

    Exit status: as of `conformance run --quick`; 2 where nothing was written.
    """
    file, _, name = target.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise UsageError(f"{target}: FILE.py:NAME is meant, as in model.py:channel_shuffle")
    if Path(file).parent != Path():
        raise UsageError(f"{file}: go to its folder first, where the two files are to stand")
    tree = _tree(Path(file))
    node = next((n for n in tree.body if getattr(n, "name", None) == name), None)
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        raise UsageError(f"{file}: has no function or class {name} at its top level")
    if any(map(is_declaration, node.decorator_list)):
        raise UsageError(f"{file}: declares {name} itself: conformance run --adapter {file}")
    texts = _texts(file, node, framework or _framework_of(tree, file))
    for path in texts:
        if Path(path).exists():
            raise UsageError(f"{path}: is here already; move it away, or ask `conformance run`")
    for path, text in texts.items():
        Path(path).write_text(text, encoding="utf-8")
        say(f"wrote {path}")
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


def _texts(file: str, node: ast.FunctionDef | ast.ClassDef, framework: str) -> dict[str, str]:
    """Returns the text of the adapter and of the test, by their names."""
    if isinstance(node, ast.ClassDef):
        operation, runs, parameters = "channel_shuffle", "one_process", "x, groups"
        own, call = f"{node.name.lower()}_shuffle", f"{node.name}(groups)(x)"
    else:
        operation, runs, parameters = _contract_of(file, node, framework)
        own, call = node.name, f"{node.name}({parameters})"
    words = {"file": file, "module": Path(file).stem, "name": node.name, "adapter": ADAPTER}
    declared = [f'"{operation}"', f'framework="{framework}"']
    declared += ['runs="per_rank"'] if runs == "per_rank" else []
    if operation == "channel_shuffle" and (ndim := _ndim_of(node)):
        declared.append(f"ndim={ndim}")
    words |= {"own": own, "call": call, "parameters": parameters, "declared": ", ".join(declared)}
    return {ADAPTER: _ADAPTER.format(**words), TEST: _TEST.format(**words)}


def _ndim_of(node: ast.AST) -> int | None:
    """Returns how many axes code unpacks a shape into, as `n, c, h, w = x.shape` does."""
    for assigned in ast.walk(node):
        if not isinstance(assigned, ast.Assign) or not isinstance(assigned.targets[0], ast.Tuple):
            continue
        value = assigned.value.func if isinstance(assigned.value, ast.Call) else assigned.value
        names = assigned.targets[0].elts
        is_shape = isinstance(value, ast.Attribute) and value.attr in ("shape", "size")
        if is_shape and not any(isinstance(name, ast.Starred) for name in names):
            return len(names)
    return None


def _contract_of(file: str, node: ast.FunctionDef, framework: str) -> tuple[str, str, str]:
    """Returns operation, way to run and parameters of the contract that a function fits."""
    own = tuple(argument.arg for argument in (*node.args.posonlyargs, *node.args.args))
    needed = own[: len(own) - len(node.args.defaults)]
    contracts = [
        (operation, runs, names_of(contract))
        for (operation, of, runs), contract in CONTRACTS.items()
        if of == framework
    ]
    for operation, runs, names in contracts:
        # Names of a shuffle's parameters are everybody's own; of four parameters they say which.
        if names in (own, needed) or (len(needed) <= len(names) <= len(own) and len(names) == 2):
            return operation, runs, ", ".join(names)
    meant = dict.fromkeys(f"({', '.join(names)})" for _, _, names in contracts)
    raise UsageError(
        f"{file}:{node.lineno}: {node.name}({', '.join(own)}) is none of "
        f"{', '.join(meant)}: write a function that is, and calls it"
    )
