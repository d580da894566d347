"""Generates all mutants of an implementation: its source with one change, in a file of its own."""

import ast
import copy
import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.core.implementations import Implementation, is_declaration
from conformance.core.outcomes import UsageError
from conformance.proofs.mutants import operators

# A step, or the whole function, may depend on these by mistake: sizes, dtypes, ranks.
_SHUFFLE_CONDITIONS = (
    "x.shape[0] > 2",
    "x.ndim == 5",
    "x.shape[1] > 16",
    "groups == 2",
    "x.shape[-1] == 1",
    "'64' in str(x.dtype)",
    "'float16' in str(x.dtype)",
)
_RANK_CONDITIONS = (
    "group.rank() != 1",
    "group.rank() < 3",
    "group.size() != 3",
    "group.size() < 8",
    "len(batches) < 3",
)
_PROCESS_CONDITIONS = ("len(devices) != 3", "len(devices) < 8", "len(batches) < 3")


@dataclass(frozen=True)
class Mutant:
    """An implementation with one change.

    Attributes:
        implementation: the implementation before the change.
        kind: the kind of the change.
        line: the line of the change in the implementation's file, from 1.
        words: the source before and after.
        source: the whole file with the change.
    """

    implementation: Implementation
    kind: str
    line: int
    words: str
    source: str

    @property
    def id(self) -> str:
        """Returns `operation/implementation:line: from → to`."""
        return f"{self.implementation.id}:{self.line}: {self.words}"

    @property
    def digest(self) -> str:
        """Returns a hash that tells the mutant from every other."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def written(self, folder: Path, number: int) -> Implementation:
        """Writes the changed file, and returns the implementation that it declares."""
        file = folder / f"{self.implementation.name}_{number}.py"
        file.unlink(missing_ok=True)  # It may be a link to a file of the implementation's folder.
        file.write_text(self.source, encoding="utf-8")
        return replace(self.implementation, origin=str(file))


def unchanged(implementation: Implementation) -> Mutant:
    """Returns the implementation's file as it is, to be asked where its mutants are.

    Raises:
        UsageError: if the implementation was named by a module, and not by a file.
    """
    origin = implementation.origin
    if not origin.endswith(".py"):
        raise UsageError(f"{origin} is a module, and files are changed: --adapter FILE.py")
    return Mutant(implementation, "", 0, "", Path(origin).read_text(encoding="utf-8"))


def put_beside(implementation: Implementation, folder: Path) -> None:
    """Links what lies beside the implementation's file into a folder: a mutant may need it too."""
    for file in Path(implementation.origin).resolve().parent.iterdir():
        if file.name != "__pycache__":  # Mutants have their own.
            (folder / file.name).symlink_to(file)


def mutants(implementation: Implementation) -> list[Mutant]:
    """Returns every mutant that compiles to other code, in the order of the source.

    Raises:
        UsageError: if there is no file that could be changed, or nothing in it.
    """
    tree = ast.parse(unchanged(implementation).source)
    seen = {_compiled(tree)}
    distinct = []
    for kind, line, words, changed in _changes(tree, implementation):
        try:
            code = _compiled(changed)
        except (SyntaxError, ValueError, TypeError):
            continue
        if code not in seen:
            seen.add(code)
            distinct.append(Mutant(implementation, kind, line, words, ast.unparse(changed)))
    if not distinct:
        raise UsageError(
            f"{implementation.origin}: {implementation.name}: nothing can be changed, "
            "which is what stands in a def or a class at the top of the file"
        )
    return distinct


def _compiled(tree: ast.Module) -> str:
    """Returns what the interpreter runs, without line numbers."""
    return ast.dump(ast.parse(ast.unparse(ast.fix_missing_locations(tree))))


Change = tuple[str, int, str, ast.Module]


def _changes(tree: ast.Module, implementation: Implementation) -> Iterator[Change]:
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    conditions, modules = _conditions_of(implementation), _imported(tree)
    for function in functions:
        for node in _mutable(function):
            if isinstance(node, ast.stmt):
                for kind, statements in operators.statements(node, conditions):
                    words = f"{_short(node)} → {'; '.join(map(_short, statements))}"
                    yield kind, node.lineno, words, _replaced(tree, node, statements)
            else:
                for kind, expression in operators.expressions(node, modules):
                    words = f"{_short(node)} → {_short(expression)}"
                    yield kind, node.lineno, words, _replaced(tree, node, [expression])
        statements = function.body[ast.get_docstring(function) is not None :]
        is_its_own = function.name == implementation.name
        if is_its_own and statements and implementation.operation == "channel_shuffle":
            first = statements[0]
            for kind, guard in operators.guards(conditions, "x"):
                yield kind, first.lineno, _short(guard[0]), _replaced(tree, first, [*guard, first])


def _imported(tree: ast.Module) -> set[str]:
    """Returns the names that imports bind."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {name.asname or name.name for node in imports for name in node.names}


def _conditions_of(implementation: Implementation) -> tuple[str, ...]:
    if implementation.operation == "channel_shuffle":
        return _SHUFFLE_CONDITIONS
    return _RANK_CONDITIONS if implementation.runs == "per_rank" else _PROCESS_CONDITIONS


def _mutable(function: ast.AST) -> Iterator[ast.stmt | ast.expr]:
    """Yields the statements and expressions that run in a call: no annotation, no docstring."""
    skipped: set[int] = set()
    for node in ast.walk(function):
        if id(node) in skipped:
            continue
        for left_out in _not_run(node):
            skipped.update(id(inner) for inner in ast.walk(left_out))
        if node is not function and isinstance(node, ast.stmt | ast.expr):
            yield node


def _not_run(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.FunctionDef():
            yield from node.decorator_list if any(map(is_declaration, node.decorator_list)) else ()
            yield from filter(None, [node.returns])
            if ast.get_docstring(node) is not None:
                yield node.body[0]
        case ast.arg() | ast.AnnAssign() if node.annotation is not None:
            yield node.annotation


def _replaced(tree: ast.Module, old: ast.AST, new: list[ast.stmt] | list[ast.expr]) -> ast.Module:
    """Returns a copy of the tree with a node replaced by other nodes."""
    whole = {old_node: index for index, old_node in enumerate(ast.walk(tree))}
    changed = copy.deepcopy(tree)
    target = list(ast.walk(changed))[whole[old]]

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST | list[ast.AST]:
            if node is target:
                copies = [copy.deepcopy(replacement) for replacement in new]
                return copies[0] if isinstance(node, ast.expr) else list(copies)
            visited: ast.AST = self.generic_visit(node)
            return visited

    Replace().visit(changed)
    return ast.fix_missing_locations(changed)


def _short(node: ast.AST) -> str:
    text = inspect.cleandoc(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))))
    line = " ".join(text.split())
    return line if len(line) <= 70 else line[:67] + "…"
