"""Which terms of the backward passes are micro-batches of one term, and which stand apart.

Passes of one window mostly are micro-batches. They are not where two of them run through one
forward pass (a second head's loss), where one is added and the other taken away (a critic), or
where each has a target of its own that is always the same (real and made images). The same holds of
several losses in one pass; those whose targets are always another's are a second look at its batch.
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
    rows = _with_looks(rows)
    signs: dict[str, set[bool]] = defaultdict(set)
    targets: dict[str, dict[tuple[int, int], list[float | None]]] = defaultdict(dict)
    for step, _, one, term in rows:
        signs[term.name].add(term.share < 0)
        targets[term.name].setdefault((step.step, one.rank), []).append(term.target)
    labelled = {name for name, places in targets.items() if _are_labels(list(places.values()))}
    seen: set[tuple[int, int, int | None, int | None, str]] = set()
    named: list[Row] = []
    for step, column, one, term in rows:
        name = term.name
        if term.name in labelled and term.target is not None:
            name += f" of targets {term.target:g}"
        if len(signs[term.name]) > 1 and term.share < 0:
            name = f"−{name}"
        place = step.step, one.rank, one.forward, term.batch
        while one.forward is not None and (*place, name) in seen:
            name += ", again"
        seen.add((*place, name))
        named.append((step, column, one, replace(term, name=name)))
    return named


def _are_labels(places: Sequence[Sequence[float | None]]) -> bool:
    """Whether the passes of every rank and step have the same targets in turn, and not one."""
    first = places[0]
    return len(set(first)) > 1 and None not in first and all(p == first for p in places)


def _with_looks(rows: Sequence[Row]) -> list[Row]:
    """Name the losses of one backward pass over a batch that an earlier loss of it was taken of.

    Targets may be the same by chance: they must be so in every pass of every rank and step.
    """
    looks: dict[tuple[int, int, int, str], list[str]] = defaultdict(list)
    before: dict[tuple[str, int], set[int]] = defaultdict(set)
    for step, column, one, term in rows:
        if term.batch is not None:
            earlier = looks[step.step, one.rank, column, term.name]
            before[term.name, term.batch].add(earlier.count(term.digest) if term.digest else 0)
            earlier.append(term.digest)
    varying = {name for (name, _), numbers in before.items() if len(numbers) > 1}
    named = []
    for step, column, one, term in rows:
        if term.batch is not None and term.name not in varying:
            (look,) = before[term.name, term.batch]
            term = replace(term, name=term.name + ", again" * look)  # noqa: PLW2901
        named.append((step, column, one, term))
    return named


def numbered(term: Term) -> str:
    """Return a name for each micro-batch of one pass, as for tasks of their own."""
    return f"{term.name} #{term.batch + 1}" if term.batch else term.name


def are_alike(rows: Sequence[Row]) -> bool:
    """Whether in each backward pass all are sums, or means, of one scale."""
    passes: dict[tuple[int, int, int], list[Term]] = defaultdict(list)
    for step, column, one, term in rows:
        passes[step.step, one.rank, column].append(term)
    return any(all(_is_one(power, terms) for terms in passes.values()) for power in (0, 1))


def _is_one(power: int, terms: Sequence[Term]) -> bool:
    scales = [term.share * (term.count or 0) ** power for term in terms]
    off = 2 * max(term.rounding for term in terms) + 2.0**-24
    return max(scales) - min(scales) <= off * max(map(abs, scales))
