"""What a term is beside the others: divided by their count, or of items chosen among theirs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from conformance.weighing.formula import Cell
from conformance.weighing.kinds import Row
from conformance.weighing.naming import constant_factor
from conformance.weighing.records import Term
from conformance.weighing.verdict import TermWeights

OF_SCALES = frozenset(
    {"world-left-in", "not-divided", "divided-twice", "squared-world", "accumulation-unscaled",
     "micro-batches-left-in"}
)  # fmt: skip
_CHOSEN = "its items are chosen among places that all share the mean, as by how sure a model is"


def without_own_scales(judged: dict[str, TermWeights]) -> dict[str, TermWeights]:
    """Leave out the name of a factor beside that of a count, if not all terms have that factor.

    Of several terms each may have a factor of its own, which may be a power of W or K by chance.
    """
    named = [frozenset(term.names or ()) for term in judged.values()]
    common = named[0].intersection(*named) if named else frozenset()
    return {
        name: replace(term, names=own)
        for name, term in judged.items()
        if (own := tuple(n for n in term.names or () if n not in OF_SCALES or n in common))
    }


def look_for_one_count(judged: dict[str, TermWeights]) -> None:
    """Name a term whose weights are one over the count of another term."""
    for name, term in judged.items():
        if term.note or term.names is None or term.names:
            continue
        for other in judged.values():
            if other is term or other.note:
                continue
            totals: dict[int, int] = defaultdict(int)
            for cell in other.cells:
                totals[cell.step] += cell.count
            own = [cell for cell in term.cells if cell.count]
            low = max(cell.low * totals[cell.step] for cell in own)
            high = min(cell.high * totals[cell.step] for cell in own)
            if low > high or len(totals) < 2:
                continue
            if sum(cell.count for cell in own) > sum(totals.values()):
                # A detector's scores of all places are divided by the objects that there are.
                note = f"its items share the count of the fewer ones of {other.term.name}"
                judged[name] = replace(term, names=None, note=note)
            else:
                judged[name] = replace(term, names=("one-count-for-all-terms",))
            break


def look_for_chosen_items(judged: dict[str, TermWeights], world: int) -> None:
    """Judge no term of a few items that share the mean of all places, beside a term of all items.

    So a script writes a loss over the items that its model is sure of. Alone it is padding.
    """
    whole = [t for t in judged.values() if not t.note and _is_of_all_places(t.cells)]
    for name, term in judged.items():
        if term.note or term.names is None or not whole or _is_of_all_places(term.cells):
            continue
        places = [replace(cell, count=cell.places or cell.count) for cell in term.cells]
        if any(constant_factor(places, world, {s: -1}) is not None for s in ("N", "n_r")):
            judged[name] = replace(term, names=None, note=_CHOSEN)


def _is_of_all_places(cells: Sequence[Cell]) -> bool:
    return all(cell.places in (None, cell.count) for cell in cells)


def of_whole_batches(rows: Sequence[Row]) -> list[Row]:
    """Join terms that share out the places of every pass: one loss, which is written in branches.

    So margin losses are made, of samples that are alike and that are not, and gains of ones and
    zeros: each branch alone would be divided by more than its items.
    """
    passes: dict[tuple[int, int], dict[str, Term]] = defaultdict(dict)
    for step, column, _, term in rows:
        passes[step.step, column][term.name] = term
    for one, other in combinations(next(iter(passes.values()), {}), 2):
        if not all(_are_branches(own.get(one), own.get(other)) for own in passes.values()):
            continue
        joined = []
        for step, column, rank_pass, term in rows:
            if term.name == one:
                rest = passes[step.step, column][other]
                places = (term.count or 0) + (rest.count or 0)
                whole = term if term.count else rest
                term = replace(whole, name=one, count=places, places=places)  # noqa: PLW2901
            if term.name != other:
                joined.append((step, column, rank_pass, term))
        return of_whole_batches(joined)
    return list(rows)


def _are_branches(one: Term | None, other: Term | None) -> bool:
    """Whether two terms give the same to items of which each place is one's or the other's."""
    if one is None or other is None or not (one.is_even and other.is_even):
        return False
    places = [term.places for term in (one, other) if term.places]
    if len(places) < 2 or (one.count or 0) + (other.count or 0) != min(places):
        return False
    off = 2 * max(one.rounding, other.rounding) * abs(one.share)
    return not (one.count and other.count) or abs(one.share - other.share) <= off


def without_idle(rows: Sequence[Row]) -> list[Row]:
    """Leave out what a loss itself gives the weight 0 in a step, if it has other terms there."""
    live = {(s.step, term.name) for s, _, _, term in rows if term.share or not term.is_even}
    steps = {step for step, _ in live}
    return [row for row in rows if row[0].step not in steps or (row[0].step, row[3].name) in live]
