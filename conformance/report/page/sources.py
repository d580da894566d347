"""The source of each implementation of a run, and the sibling that it is best read beside."""

import ast
from collections import defaultdict
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from conformance.core.implementations import Implementation, own, own_folder
from conformance.core.verdict import RIGHT
from conformance.report.declarations import declarations
from conformance.run.results import Run

LONGEST = 200  # Lines of a source that is shown.


class Sources:
    """What the implementations of a run declare, and where their code is."""

    def __init__(self, run: Run) -> None:
        """Reads the declarations, and who answered which cases."""
        self._declared = declarations(run)
        self._answered: dict[tuple[str, str], set[str]] = defaultdict(set)
        for record in run.records:
            if record.status in {*RIGHT, "fail"}:
                self._answered[record.operation, record.implementation].add(record.case)

    def of(self, names: Iterable[tuple[str, ...]]) -> dict[str, dict[str, Any]]:
        """Returns framework, promise, place, source and sibling, by `operation/name`."""
        here = {(operation, name) for operation, name, *_ in names}
        siblings = {key: self._sibling(key, here) for key in here}
        shown = here | {sibling for sibling in siblings.values() if sibling is not None}
        return {"/".join(key): self._described(key, siblings.get(key)) for key in sorted(shown)}

    def _described(self, key: tuple[str, str], sibling: tuple[str, str] | None) -> dict[str, Any]:
        declared = self._declared.get(key)
        if declared is None:
            return {"framework": "", "promise": "", "place": "", "source": "", "sibling": ""}
        return {
            "framework": declared.framework,
            "promise": declared.held_to,
            "place": _place(declared),
            "source": _source(declared),
            "sibling": "/".join(sibling) if sibling else "",
        }

    def _sibling(self, key: tuple[str, str], here: set[tuple[str, str]]) -> tuple[str, str] | None:
        """Picks who was asked most of the same cases: a port, or of code from outside a reference.

        The suite's own stand beside one of another framework, and code from outside beside one of
        its own. Of several it picks one of the suite's own of the same promise, then the nearest
        by name.
        """
        declared = self._declared.get(key)
        if declared is None:
            return None
        is_own = declared in own()
        others = [
            other
            for other_key, other in self._declared.items()
            if other.operation == declared.operation
            and other is not declared
            and other_key in here
            and other.origin != declared.origin
        ] or [
            other for other in own() if other.operation == declared.operation and other != declared
        ]

        def nearness(other: Implementation) -> tuple[Any, ...]:
            common = self._answered[key] & self._answered[other.operation, other.name]
            return (
                (other.framework == declared.framework) != is_own,
                other.held_to == declared.held_to,
                other in own(),
                len(common),
                SequenceMatcher(None, _stem(other.name), _stem(declared.name)).ratio(),
            )

        best = max(others, key=nearness, default=None)
        return (best.operation, best.name) if best else None


def _stem(name: str) -> str:
    return name.partition("_")[2] or name


def _place(declared: Implementation) -> str:
    path = Path(declared.origin)
    if path.is_relative_to(own_folder()):
        path = Path("impls") / path.relative_to(own_folder())
    return f"{path.as_posix()}:{declared.line}"


def _source(declared: Implementation) -> str:
    """Returns the file where it holds one implementation, else the function with its decorators."""
    text = Path(declared.origin).read_text(encoding="utf-8")
    lines = text.split("\n")
    functions = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    ]
    declaring = [n for n in functions if n.decorator_list[0].lineno <= declared.line <= n.lineno]
    if len(functions) > 1 and declaring:
        lines = lines[declaring[0].decorator_list[0].lineno - 1 : declaring[0].end_lineno]
    if len(lines) > LONGEST:
        lines = [*lines[:LONGEST], f"# … and {len(lines) - LONGEST} lines more"]
    return "\n".join(lines).strip("\n")
