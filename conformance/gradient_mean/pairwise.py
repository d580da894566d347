"""A small selection of combinations in which every possible pair of values occurs."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = dict[str, Any]


def covering(
    factors: Mapping[str, Sequence[Any]],
    possible: Callable[[Row], bool] = lambda _: True,
    *,
    apart: Sequence[tuple[str, str]] = (),
    given: Sequence[Row] = (),
) -> list[Row]:
    """Rows that assign a value to every factor, such that every pair that can occur does.

    Greedy: each row starts from the first pair that is still missing, and takes for every other
    factor the value that covers most of what is missing. The same factors give the same rows.

    Args:
        factors: the values of each factor, by name.
        possible: whether the values assigned so far can stand in one row; it is asked of partial
            rows too, and must not say no to one that can be completed.
        apart: pairs of factors whose values need not meet.
        given: rows that there are already; what they cover is not covered again.

    >>> rows = covering({"a": [1, 2], "b": [1, 2], "c": [1, 2]})
    >>> len(rows)
    4
    """
    missing = {
        frozenset({(f, u), (g, v)}): None
        for f, g in combinations(factors, 2)
        if (f, g) not in apart
        for u, v in product(factors[f], factors[g])
        if possible({f: u, g: v})
    }
    for there in given:
        _cross_off(there, missing)
    rows: list[Row] = []
    while missing:
        row = _completed(dict(next(iter(missing))), factors, missing, possible)
        if row is None:  # the pair stands in no whole row
            missing.pop(next(iter(missing)))
            continue
        rows.append({name: row[name] for name in factors})
        _cross_off(row, missing)
    return rows


def _cross_off(row: Row, missing: dict[frozenset[tuple[str, Any]], None]) -> None:
    for pair in combinations(row.items(), 2):
        missing.pop(frozenset(pair), None)


def _completed(
    row: Row,
    factors: Mapping[str, Sequence[Any]],
    missing: Mapping[frozenset[tuple[str, Any]], None],
    possible: Callable[[Row], bool],
) -> Row | None:
    """The row with a value for every factor, by backtracking over the better values first."""
    open_factor = next((name for name in factors if name not in row), None)
    if open_factor is None:
        return row

    def gain(value: Any) -> int:
        return sum(frozenset({(open_factor, value), other}) in missing for other in row.items())

    for value in sorted(factors[open_factor], key=gain, reverse=True):
        longer = {**row, open_factor: value}
        if possible(longer):
            whole = _completed(longer, factors, missing, possible)
            if whole is not None:
                return whole
    return None
