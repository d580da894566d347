"""Which terms of several backward passes are micro-batches of one term, and which stand apart.

Passes of one window mostly are micro-batches. They are not where two of them run through one
forward pass (a second head's loss), where one is added and the other taken away (a critic), or
where each has a target of its own that is always the same (real and made images).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from conformance.weighing.records import Pass, Step, Term

Row = tuple[Step, int, Pass, Term]


def apart(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of (step, column, pass, term), with a name for each kind of term.

    >>> from conformance.weighing.records import Pass, Step, Term
    >>> passes = [Pass(0, k, [Term("bce", 2, 0.5, target=k)], forward=k) for k in (0, 1)]
    >>> step = Step(1, "Adam 1", 1, passes, [])
    >>> [row[3].name for row in apart([(step, k, p, p.terms[0]) for k, p in enumerate(passes)])]
    ['bce of targets 0', 'bce of targets 1']
    """
    signs: dict[str, set[bool]] = defaultdict(set)
    targets: dict[str, dict[tuple[int, int], list[float | None]]] = defaultdict(dict)
    for step, _, one, term in rows:
        signs[term.name].add(term.share < 0)
        targets[term.name].setdefault((step.step, one.rank), []).append(term.target)
    labelled = {name for name, places in targets.items() if _are_labels(list(places.values()))}
    seen: set[tuple[int, int, int | None, str]] = set()
    named: list[Row] = []
    for step, column, one, term in rows:
        name = term.name
        if term.name in labelled and term.target is not None:
            name += f" of targets {term.target:g}"
        if len(signs[term.name]) > 1 and term.share < 0:
            name = f"−{name}"
        while one.forward is not None and (step.step, one.rank, one.forward, name) in seen:
            name += ", again"
        seen.add((step.step, one.rank, one.forward, name))
        named.append((step, column, one, replace(term, name=name)))
    return named


def _are_labels(places: Sequence[Sequence[float | None]]) -> bool:
    """Whether the passes of every rank and step have the same targets in turn, and not one."""
    first = places[0]
    return len(set(first)) > 1 and None not in first and all(p == first for p in places)
