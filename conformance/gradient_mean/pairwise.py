"""Selects few combinations in which every possible pair of values occurs."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = dict[str, Any]


def covering(
    factors: Mapping[str, Sequence[Any]],
    possible: Callable[[Row], bool] = lambda _: True,
    *,
    apart: Sequence[tuple[str, str]] = (),
    covered: Sequence[Row] = (),
) -> list[Row]:
    """Returns rows with a value for every factor, such that every pair that can occur does.

    Greedy: each row starts from the first pair that is still missing, and takes for every other
    factor the value that covers most missing pairs. The same factors give the same rows.

    Args:
        factors: the values of each factor, by name.
        possible: says whether the values of a row, which may be partial, can stand together; it
            must accept every partial row that can be completed.
        apart: pairs of factors whose values need not meet.
        covered: rows that exist already; their pairs are not covered again.

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
    for row in covered:
        _cross_off(row, missing)
    rows: list[Row] = []
    while missing:
        whole = _completed(dict(next(iter(missing))), factors, missing, possible)
        if whole is None:
            # The pair stands in no whole row.
            missing.pop(next(iter(missing)))
            continue
        rows.append({name: whole[name] for name in factors})
        _cross_off(whole, missing)
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
    """Completes a row with a value for every factor, by backtracking from the better values."""
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
