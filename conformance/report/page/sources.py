"""The source of each implementation of a run, and the sibling that it is best read beside.

Files are read and never run: a results file from elsewhere may name any adapter.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from conformance.core.implementations import Implementation, declared_in, own, own_folder
from conformance.core.outcomes import UsageError
from conformance.core.verdict import RIGHT
from conformance.run.results import Run

LONGEST = 200  # lines of a source that is shown


class Sources:
    """What the implementations of a run say of themselves, and where their code is."""

    def __init__(self, run: Run) -> None:
        adapters = run.header.get("environment", {}).get("adapters", [])
        outside = [declared for name in adapters for declared in _declared(str(name))]
        self._declared = {
            (declared.operation, declared.name): declared for declared in (*outside, *own())
        }
        self._answered: dict[tuple[str, str], set[str]] = defaultdict(set)
        for record in run.records:
            if record.status in {*RIGHT, "fail"}:
                self._answered[record.operation, record.implementation].add(record.case)

    def of(self, names: Iterable[tuple[str, ...]]) -> dict[str, dict[str, Any]]:
        """By `operation/name`: framework, promise, place, source and sibling, as far as known."""
        here = {(operation, name) for operation, name, *_ in names}
        siblings = {key: self._sibling(key, here) for key in here}
        shown = here | {sibling for sibling in siblings.values() if sibling is not None}
        return {"/".join(key): self._told(key, siblings.get(key)) for key in sorted(shown)}

    def _told(self, key: tuple[str, str], sibling: tuple[str, str] | None) -> dict[str, Any]:
        declared = self._declared.get(key)
        if declared is None:
            return {"framework": "", "promise": "", "place": "", "source": "", "sibling": ""}
        return {
            "framework": declared.framework,
            "promise": declared.promise,
            "place": _place(declared),
            "source": _source(declared),
            "sibling": "/".join(sibling) if sibling else "",
        }

    def _sibling(self, key: tuple[str, str], here: set[tuple[str, str]]) -> tuple[str, str] | None:
        """Who was asked most of the same cases, of another framework where there is one.

        Of several, one of the suite's own of the same promise, and then the nearest by name.
        """
        declared = self._declared.get(key)
        if declared is None:
            return None
        others = [
            other
            for other_key, other in self._declared.items()
            if other.operation == declared.operation
            and other is not declared
            and other_key in here
            and other.origin != declared.origin
        ] or [one for one in own() if one.operation == declared.operation and one != declared]

        def nearness(other: Implementation) -> tuple[Any, ...]:
            common = self._answered[key] & self._answered[other.operation, other.name]
            return (
                other.framework != declared.framework,
                other.promise == declared.promise,
                other in own(),
                len(common),
                SequenceMatcher(None, _stem(other.name), _stem(declared.name)).ratio(),
            )

        best = max(others, key=nearness, default=None)
        return (best.operation, best.name) if best else None


def _stem(name: str) -> str:
    return name.partition("_")[2] or name


def _declared(adapter: str) -> list[Implementation]:
    """What an adapter's file declares, by its syntax; nothing where that cannot be seen."""
    path = Path(adapter)
    if path.suffix != ".py":
        return []
    try:
        return declared_in(path)
    except (OSError, ValueError, SyntaxError, AssertionError, UsageError):
        return []  # gone since, or declared by code: the page says that it has no source


def _place(declared: Implementation) -> str:
    path = Path(declared.origin)
    if path.is_relative_to(own_folder()):
        path = Path("impls") / path.relative_to(own_folder())
    return f"{path.as_posix()}:{declared.line}"


def _source(declared: Implementation) -> str:
    """The file where it holds one implementation, else its function with the decorators."""
    text = Path(declared.origin).read_text(encoding="utf-8")
    lines = text.split("\n")
    functions = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    mine = [n for n in functions if n.decorator_list[0].lineno <= declared.line <= n.lineno]
    if len(functions) > 1 and mine:
        lines = lines[mine[0].decorator_list[0].lineno - 1 : mine[0].end_lineno]
    if len(lines) > LONGEST:
        lines = [*lines[:LONGEST], f"# … and {len(lines) - LONGEST} lines more"]
    return "\n".join(lines).strip("\n")
