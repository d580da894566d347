"""Implementations: the decorator by which all code joins the suite, and where it is found again.

The suite's own files are *declared* by reading their source, so that listing them imports no
framework; they are *loaded* by running them, in the world where they are asked. An adapter from
outside is loaded where it is named. Both run through the same decorator.
"""

import ast
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard, TypeVar

from conformance.core import declarations, signatures
from conformance.core.contract import CONTRACTS, CONTRACTS_OF_STEPS
from conformance.core.declarations import FRAMEWORKS, PROMISES, RUNS, Implementation
from conformance.core.outcomes import UsageError

__all__ = ["FRAMEWORKS", "PROMISES", "RUNS", "Implementation", "implementation"]

ENTRY_POINTS = "conformance.implementations"
Function = TypeVar("Function", bound=Callable[..., Any])

# A declaration, its function, and the gradient that it brings along, if it does.
_Collected = tuple[Implementation, Callable[..., Any], Callable[..., Any] | None]
_collecting: ContextVar[list[_Collected] | None] = ContextVar("_collecting", default=None)


def implementation(
    operation: str,
    *,
    framework: str,
    name: str | None = None,
    promise: str | None = None,
    runs: str | None = None,
    layout: str | None = None,
    needs: str | Sequence[str] = (),
    devices: str | None = None,
    batch: str | None = None,
    spans: str | None = None,
    micro_batches: str | None = None,
    steps: str | None = None,
    dtypes: str | Sequence[str] = (),
    ndim: int | Sequence[int] = (),
    clip: str | None = None,
    vjp: Callable[..., Any] | None = None,
) -> Callable[[Function], Function]:
    """Declare a function to be an implementation of an operation; it is returned unchanged.

    Args:
        operation: `channel_shuffle` or `gradient_mean`.
        framework: `torch`, `jax` or `numpy`.
        name: the implementation's name; the function's own where none is given.
        promise: what it may be held to. For `channel_shuffle`: `copy` (the default: the bits of
            S1, in memory of their own), `native` (torch's operator to the letter, errors and
            strides too) or `arithmetic` (sums of products: exact on finite values). For
            `gradient_mean`: `rank_mean`, `sample_mean`, `rank_sum` or `step_mean`; of a trainer a
            formula for what each item counts, as in `1/N` or `1/(W*K*n)`.
        runs: `one_process`, `per_rank`, `virtual` (thousands of ranks in one process, on one
            device), for `gradient_mean`; or `trainer`, which `conformance weigh --trainers` asks.
        layout: `channels_last` where x is to be (N, *spatial, C).
        needs: packages and their versions, as in `"torch>=2.12"`; with others its checks are
            `unsupported`.
        devices: `one` where one device is enough for all W ranks; `each` rank has one otherwise.
        batch: `whole` where a batch norm in training sees all ranks' samples; `shard` where it
            sees its own rank's.
        spans: `process` where its devices must be those of one process, as where one is enough;
            `processes` otherwise.
        micro_batches: of `rank_mean`, `sample_mean` and `rank_sum`: `sum` where the K micro-batches
            add up, `mean` where they are averaged. A `step_mean` is one mean over all of them.
        steps: `several` where the function is a generator, which gets a list of windows of
            micro-batches, and yields after each; `one` where it is called for one window.
        dtypes: those that it takes, as in `("f32", "f16")`; with others its checks are
            `unsupported`. All where none is named.
        ndim: of `channel_shuffle`, how many dimensions its input may have: 4, or `(3, 4)`.
        clip: of `rank_mean`, `norm` where the average is clipped to a norm of 1, and is asked for
            nothing else; `none` otherwise.
        vjp: of `channel_shuffle`, a function of (x, groups, cotangent) that gives the input's
            cotangent, where the framework that the code wraps differentiates it itself.

    Raises:
        UsageError: if any of these is not one of the words above, or the function's parameters are
            not those of its contract in `conformance.core.contract`.

    >>> @implementation("channel_shuffle", framework="numpy")
    ... def nothing_moves(x, groups):
    ...     return x.copy()
    >>> nothing_moves.__name__
    'nothing_moves'
    """

    def declare(function: Function) -> Function:
        code = getattr(inspect.unwrap(function), "__code__", None)
        caller = sys._getframe(1)  # Of what has no code of its own.
        declared = declarations.declared(
            operation,
            name or str(getattr(function, "__name__", "")),
            framework=framework,
            promise=promise,
            runs=runs,
            layout=layout,
            needs=needs,
            devices=devices,
            batch=batch,
            spans=spans,
            micro_batches=micro_batches,
            steps=steps,
            dtypes=dtypes,
            ndim=ndim,
            clip=clip,
            origin=code.co_filename if code else caller.f_code.co_filename,
            line=code.co_firstlineno if code else caller.f_lineno,
        )
        _verify_gradient(declared, vjp)
        _verify_use(declared, function)
        signature = signatures.signature_of(function)
        if signature is not None:
            own_name = str(getattr(function, "__name__", ""))
            _verify(declared, own_name if own_name.isidentifier() else declared.name, signature)
        collected = _collecting.get()
        if collected is not None:
            collected.append((declared, function, vjp))
        return function

    return declare


def _verify_gradient(declared: Implementation, vjp: Callable[..., Any] | None) -> None:
    if vjp is None:
        return
    if declared.operation != "channel_shuffle":
        raise UsageError(
            f"{declared.origin}:{declared.line}: {declared.name}: vjp is of channel_shuffle"
        )
    signature = signatures.signature_of(vjp)
    if not callable(vjp):
        raise UsageError(
            f"{declared.origin}:{declared.line}: {declared.name}: vjp={vjp!r} is no function of "
            "(x, groups, cotangent)"
        )
    try:
        if signature is not None:
            signature.bind("x", "groups", "cotangent")
    except TypeError as error:
        raise UsageError(
            f"{declared.origin}:{declared.line}: {declared.name}: vjp cannot be called with "
            f"(x, groups, cotangent): {error}"
        ) from error


def _contract_of(declared: Implementation) -> type | None:
    table = CONTRACTS_OF_STEPS if declared.steps == "several" else CONTRACTS
    return table.get((declared.operation, declared.framework, declared.runs))


def _verify_use(declared: Implementation, function: object) -> None:
    wanted, place = _contract_of(declared), f"{declared.origin}:{declared.line}: {declared.name}"
    if wanted is None:
        ways = [
            repr(runs)
            for operation, framework, runs in CONTRACTS
            if (operation, framework) == (declared.operation, declared.framework)
        ]
        raise UsageError(
            f"{place}: nothing asks {declared.operation} of {declared.framework} with "
            f"runs={declared.runs!r}: declare runs={' or '.join(ways)}"
        )
    if flaw := signatures.misuse(wanted, declared.name, function):
        raise UsageError(f"{place}: {flaw}")


def _verify(
    declared: Implementation, function: str, signature: inspect.Signature, *, exact: bool = False
) -> None:
    wanted = _contract_of(declared)
    flaw = wanted and signatures.misfit(wanted, function, signature, exact=exact)
    if flaw:
        raise UsageError(f"{declared.origin}:{declared.line}: {declared.name}: {flaw}")


@cache
def own_folder() -> Path:
    """Where the suite's implementations are: beside the package, or inside it when built."""
    package = Path(__file__).parents[1]
    inside = package / "impls"
    return inside if inside.is_dir() else package.parent / "impls"


@cache
def own() -> tuple[Implementation, ...]:
    """The suite's own implementations, read from their source without running it."""
    found = [
        declared
        for operation in PROMISES
        for path in sorted((own_folder() / operation).glob("*.py"))
        for declared in declared_in(path, exact=True)
    ]
    return without_doubles(found)


def declared_in(path: Path, *, exact: bool = False) -> list[Implementation]:
    """What the decorators of one file say, by its syntax tree: their arguments are literals.

    Args:
        path: of the file.
        exact: whether parameters must have the contract's names.
    """
    implementations = []
    for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        decorators = getattr(node, "decorator_list", [])
        for number, decorator in enumerate(decorators, 1):
            if is_declaration(decorator):
                operation, *rest = (ast.literal_eval(argument) for argument in decorator.args)
                assert isinstance(node, ast.FunctionDef)
                assert not rest, f"{path}: the decorator takes one positional argument"
                words = {
                    str(key.arg): ast.literal_eval(key.value)
                    for key in decorator.keywords
                    if key.arg != "vjp"  # a function, which says nothing of the declaration
                }
                name = words.pop("name", None) or node.name
                declared = declarations.declared(
                    operation, name, **words, origin=str(path), line=decorator.lineno
                )
                # A decorator between may change the parameters, which only running it tells.
                if exact or number == len(decorators):
                    _verify(declared, node.name, signatures.written_signature(node), exact=exact)
                implementations.append(declared)
    return implementations


def is_declaration(decorator: ast.expr) -> TypeGuard[ast.Call]:
    """Says whether a decorator calls `implementation`, of whatever module it is an attribute."""
    function = getattr(decorator, "func", None)
    return getattr(function, "attr", getattr(function, "id", None)) == implementation.__name__


def adapter(name: str) -> tuple[Implementation, ...]:
    """Run an adapter, a file or a module, and say what it declared.

    Raises:
        UsageError: if it is missing, does not import, or declares nothing or one name twice.
    """
    try:
        collected = [declared for declared, _, _ in _load(name)]
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # whatever the adapter's own code raises
        words = str(error).splitlines()[0] if str(error) else ""
        raise UsageError(
            f"adapter {name}{_line_of(error, name)}: does not import: "
            f"{type(error).__name__}: {words}{_advice(error, name)}"
        ) from error
    if not collected:
        raise UsageError(
            f"adapter {name}: declares no implementation; "
            "put @conformance.implementation(operation, framework=…) above a function"
        )
    return without_doubles(collected)


def _line_of(error: BaseException, name: str) -> str:
    """Returns `:LINE` of an adapter's file where it was when this was raised; empty if unknown."""
    frames = traceback.extract_tb(error.__traceback__)
    own_file = str(Path(name).resolve())
    line = next((f.lineno for f in reversed(frames) if f.filename == own_file), None)
    return f":{line}" if line else ""


def _advice(error: BaseException, name: str) -> str:
    """Returns what to do about what adapters often raise, as the end of a sentence."""
    words = str(error)
    if isinstance(error, SystemExit):
        return '; what ends the process belongs under if __name__ == "__main__":'
    if isinstance(error, TypeError) and words.startswith(f"{implementation.__name__}() "):
        return f"; it takes {', '.join(inspect.signature(implementation).parameters)}"
    if isinstance(error, ImportError) and "relative import" in words and name.endswith(".py"):
        module = ".".join(Path(name).with_suffix("").parts)
        return f"; from the folder that its package is in: --adapter {module}"
    return ""


def is_outside(declared: Implementation) -> bool:
    """Says whether an implementation is not one of the suite's own."""
    return not declared.origin.startswith(f"{own_folder()}{os.sep}")


def function_of(declared: Implementation) -> Callable[..., Any]:
    """The function of an implementation; its file is run in this process once.

    Raises:
        ImportError: if a package that the file imports is not installed.
    """
    for found, function, _ in _load(declared.origin):
        if found.id == declared.id:
            wanted = _contract_of(declared)
            return signatures.called_by_position(wanted, function) if wanted else function
    raise UsageError(f"{declared.origin}: {declared.name} is not there any more")


def gradient_of(declared: Implementation) -> Callable[..., Any] | None:
    """The function of (x, groups, cotangent) that an implementation brings along, or None."""
    return next((vjp for found, _, vjp in _load(declared.origin) if found.id == declared.id), None)


@cache
def _load(origin: str) -> tuple[_Collected, ...]:
    collected: list[_Collected] = []
    token = _collecting.set(collected)
    try:
        module = _module(origin)
    finally:
        _collecting.reset(token)
    del module
    return tuple(
        (replace(declared, origin=origin), function, vjp) for declared, function, vjp in collected
    )


def _module(origin: str) -> ModuleType:
    if not origin.endswith(".py"):
        if not all(word.isidentifier() for word in origin.split(".")) or Path(origin).is_file():
            raise UsageError(f"adapter {origin}: is neither a FILE.py nor a module's name")
        # A module that is imported already would not run its decorators again.
        sys.modules.pop(origin, None)
        return importlib.import_module(origin)
    path = Path(origin)
    if not path.is_file():
        raise UsageError(f"adapter {origin}: no such file")
    name = "conformance_adapter_" + path.stem.replace("-", "_").replace(".", "_")
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # Last, so that no file beside the adapter hides a framework.
    if (beside := str(path.resolve().parent)) not in sys.path:
        sys.path.append(beside)
    spec.loader.exec_module(module)
    return module


def without_doubles(found: Iterable[Implementation]) -> tuple[Implementation, ...]:
    """Returns the implementations, whose ids must be unique.

    Raises:
        UsageError: naming the first id that is declared twice.
    """
    by_id: dict[str, Implementation] = {}
    for declared in found:
        first = by_id.setdefault(declared.id, declared)
        if first is not declared:
            raise UsageError(
                f"{declared.origin}:{declared.line}: {declared.id} is declared already, "
                f"at {first.origin}:{first.line}; give one of them name=…"
            )
    return tuple(by_id.values())
