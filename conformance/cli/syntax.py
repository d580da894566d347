"""Reads in a file's syntax tree what a name stands for, and what code says of its input's axes."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from conformance.core.outcomes import UsageError

# What channels are called, alone and in the names of parameters.
CHANNELS = r"(n|num|in|input)?_?(c|ch|chs|channels?|planes|features)(_in)?"


@dataclass(frozen=True)
class Shape:
    """What code says of the input's axes: how many there are, where it matters, and their order."""

    ndim: int | None = None
    layout: str = ""

    @property
    def channels(self) -> str:
        """Writes the number of channels."""
        return "x.shape[-1]" if self.layout else "x.shape[1]"


ANY_SHAPE = Shape()


def find(tree: ast.Module, dotted: str) -> tuple[ast.AST, ast.ClassDef | None]:
    """Returns the definition of NAME or CLASS.NAME, and its class; also one under `if` or `try`.

    Raises:
        UsageError: if there is none; the message begins with the words after the file's name.
    """
    first, _, method = dotted.partition(".")
    found = defined(tree.body, first)
    imported = _imported_from(tree, first)
    if found is None and imported:
        raise UsageError(f"imports {first} from {imported}: name the file that defines it")
    if found is None:
        raise UsageError(f"has no function or class {first} at its top level")
    if not method:
        return found, None
    if not isinstance(found, ast.ClassDef):
        raise UsageError(f"{first} is no class: FILE.py:NAME or FILE.py:CLASS.METHOD is meant")
    function = defined(found.body, method)
    if not isinstance(function, ast.FunctionDef):
        raise UsageError(f"{first} has no method {method} of its own")
    return function, found


def _imported_from(tree: ast.Module, name: str) -> str:
    """Returns the module that a name is imported from; empty where it is not."""
    for node in _statements(tree.body):
        if isinstance(node, ast.ImportFrom) and name in (a.asname or a.name for a in node.names):
            return "." * node.level + (node.module or "")
    return ""


def defined(body: Sequence[ast.AST], name: str) -> ast.AST | None:
    """Returns the last definition of a name among statements, and those under `if` and `try`."""
    last: ast.AST | None = None
    for node in _statements(body):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if getattr(node, "name", None) == name or name in names:
            last = node
    return last


def _statements(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Yields statements, and what stands in their branches."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _statements(list(ast.iter_child_nodes(node)))


def last_word(node: ast.expr) -> str:
    """Returns the last word of a dotted name; empty where it is none."""
    return getattr(node, "attr", getattr(node, "id", ""))


def method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    """Returns a method of a class; None where it has none of this name of its own."""
    return next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == name), None)


def shape_of(tree: ast.Module, node: ast.AST) -> Shape:
    """Returns what code says of the input's axes, itself or by the functions that it calls.

    >>> shape_of(ast.parse(""), ast.parse("n, h, w, c = x.shape"))
    Shape(ndim=4, layout='channels_last')
    >>> shape_of(ast.parse(""), ast.parse("x.reshape(shape).permute(0, 2, 1, 3, 4)")).ndim
    4
    """
    inner = [n for code in _called(tree, node) for n in ast.walk(code)]
    for names in filter(None, map(_unpacked, inner)):
        last = names[-1]
        is_last = isinstance(last, ast.Name) and re.fullmatch(CHANNELS, last.id.lower())
        starred = any(isinstance(name, ast.Starred) for name in names)
        layout = "channels_last" if is_last and len(names) > 2 else ""
        return Shape(None if starred else len(names), layout)
    axes = [axis for n in inner if (axis := _axes(n)) > 2]
    return Shape(max(axes, default=None))


def _called(tree: ast.Module, node: ast.AST) -> list[ast.AST]:
    """Returns code and the functions of its file that it calls, each once."""
    found = [node]
    for code in found:
        for inner in ast.walk(code):
            called = inner.func if isinstance(inner, ast.Call) else None
            helper = defined(tree.body, called.id) if isinstance(called, ast.Name) else None
            if isinstance(helper, ast.FunctionDef) and helper not in found:
                found.append(helper)
    return found


def _unpacked(node: ast.AST) -> list[ast.expr]:
    """Returns the names that a shape is unpacked into, as in `n, c, h, w = x.shape`."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Tuple):
        return []
    value = node.value.func if isinstance(node.value, ast.Call) else node.value
    is_shape = isinstance(value, ast.Attribute) and value.attr in ("shape", "size")
    return node.targets[0].elts if is_shape else []


def _axes(node: ast.AST) -> int:
    """Returns the axes of an input of which `x.shape[3]`, `x.size(3)` or a permutation tells."""
    if isinstance(node, ast.Subscript) and last_word(node.value) == "shape":
        numbers = _integers([node.slice])
        return numbers[0] + 1 if numbers else 0
    if not isinstance(node, ast.Call):
        return 0
    given = [part for argument in node.args for part in getattr(argument, "elts", [argument])]
    numbers = _integers(given)
    if last_word(node.func) == "size" and len(given) == 1:
        return numbers[0] + 1 if numbers else 0
    is_permutation = last_word(node.func) in ("permute", "transpose")
    # The groups are an axis more.
    is_whole = len(numbers) > 3 and sorted(numbers) == list(range(len(numbers)))
    return len(numbers) - 1 if is_permutation and is_whole else 0


def _integers(nodes: Iterable[ast.expr]) -> list[int]:
    return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, int)]
