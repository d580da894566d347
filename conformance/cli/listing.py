"""Lists of what the suite has, as plain rows with `id` and `operation`, without any framework."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from conformance.compare.catalogue import all_mistakes
from conformance.core.checks import Pattern, selected
from conformance.core.clauses import all_clauses
from conformance.core.outcomes import UsageError
from conformance.run.adapters import gather
from conformance.subjects import all_cases

Entry = dict[str, Any]


def entries(kind: str, patterns: Sequence[str] = (), adapters: Sequence[str] = ()) -> list[Entry]:
    """Returns the implementations, cases, clauses, mistakes or checks that match the patterns.

    Raises:
        UsageError: if a pattern matches nothing.
    """
    if kind == "checks":
        return [
            {
                "id": check.id,
                "operation": check.implementation.operation,
                "implementation": check.implementation.name,
                "case": check.case.name,
                "device": check.device,
            }
            for check in selected(gather(adapters), all_cases(), ("cpu",), patterns)
        ]
    rows = _LISTS[kind](adapters)
    if not patterns:
        return rows
    for text in patterns:
        if not any(_takes(text, entry) for entry in rows):
            raise UsageError(f"no {kind} match {text!r}; `conformance list {kind}` names them all")
    return [entry for entry in rows if any(_takes(text, entry) for text in patterns)]


def _takes(text: str, entry: Entry) -> bool:
    """Says whether a text matches an entry, as a pattern over check ids or a glob over its id."""
    pattern = Pattern.parse(text)
    if fnmatchcase(str(entry["id"]), text) or fnmatchcase(str(entry.get("name", "")), text):
        return True
    return (
        fnmatchcase(str(entry["operation"]), pattern.operation)
        and fnmatchcase(str(entry["name"]) if "framework" in entry else "", pattern.implementation)
        and fnmatchcase(str(entry["name"]) if "family" in entry else "", pattern.case)
    )


def _implementations(adapters: Sequence[str]) -> list[Entry]:
    return [
        {
            "id": implementation.id,
            "operation": implementation.operation,
            "name": implementation.name,
            "framework": implementation.framework,
            "promise": implementation.held_to,
            "runs": implementation.runs,
            "layout": implementation.layout,
        }
        for implementation in gather(adapters)
    ]


def _cases(_adapters: Sequence[str]) -> list[Entry]:
    return [
        {
            "id": case.id,
            "operation": case.operation,
            "name": case.name,
            "family": case.family,
            "about": case.about,
            "clauses": list(case.clauses),
            "parameters": case.parameters(),
            "promises": list(case.promises),
            "against": list(case.against),
        }
        for case in all_cases()
    ]


def _clauses(_adapters: Sequence[str]) -> list[Entry]:
    cited = Counter(clause for case in all_cases() for clause in case.clauses)
    return [
        {
            "id": clause.id,
            "operation": clause.operation,
            "words": clause.words,
            "source": clause.source,
            "where": clause.where,
            "verdict": clause.verdict,
            "cases": cited[clause.id],
        }
        for clause in all_clauses()
    ]


def _mistakes(_adapters: Sequence[str]) -> list[Entry]:
    return [
        {
            "id": mistake.name,
            "operation": mistake.operation,
            "done": mistake.done,
            "advice": mistake.advice,
            "seen": mistake.seen,
        }
        for mistake in all_mistakes()
    ]


_LISTS: dict[str, Callable[[Sequence[str]], list[Entry]]] = {
    "implementations": _implementations,
    "cases": _cases,
    "clauses": _clauses,
    "mistakes": _mistakes,
}


def as_json(rows: Sequence[Entry]) -> str:
    """Writes an array of objects, one a line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f"[\n{lines}\n]" if rows else "[]"


def as_lines(rows: Sequence[Entry]) -> str:
    """Writes a line for each row: the id, padded, and a description."""
    width = max((len(row["id"]) for row in rows), default=0)
    return "\n".join(f"{row['id']:<{width}}  {_beside(row)}".rstrip() for row in rows)


def _beside(row: Entry) -> str:
    if "framework" in row:
        layout = f", {row['layout']}" if row["layout"] else ""
        return f"{row['framework']}, {row['promise']}{layout}"
    if "about" in row:
        return f"{' '.join(row['clauses'])}: {row['about']}"
    if "verdict" in row:
        contradicted = " CONTRADICTED" if row["verdict"] == "contradicted" else ""
        return f"{row['cases']:>3} cases{contradicted}  {row['words']}"
    return str(row.get("done", ""))
