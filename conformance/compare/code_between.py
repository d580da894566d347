"""The code between layers, as an expression that explains what was captured at its end.

No source is read: of the functions that models are made of, those are found that give, from what
was captured earlier, what was captured later, inside the derived error.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import TypeAlias, get_args

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare.distance import fits
from conformance.compare.functions import ADD, CONCATENATE, Family, Function, candidates

Place: TypeAlias = "tuple[str, int]"  # ("input", i), or a call's module and number
_DEPTH, _RECENT = 3, 6


@dataclass(frozen=True)
class Ref:
    """What was captured at a place."""

    place: Place


@dataclass(frozen=True)
class Applied:
    """A function of what came before; `where` names the submodule that did it, if one did."""

    function: Function
    arguments: tuple["Expression", ...]
    where: str = ""


Expression: TypeAlias = Ref | Applied


def places_of(expression: Expression) -> Iterator[Place]:
    """Every place that it starts from."""
    if isinstance(expression, Ref):
        yield expression.place
    else:
        for argument in expression.arguments:
            yield from places_of(argument)


def nodes_of(expression: Expression) -> Iterator[Applied]:
    """Its functions, in the order in which they are applied."""
    if isinstance(expression, Applied):
        for argument in expression.arguments:
            yield from nodes_of(argument)
        yield expression


def replaced(expression: Expression, old: Applied, function: Function) -> Expression:
    """With another function in one place."""
    if isinstance(expression, Ref):
        return expression
    if expression is old:
        return replace(expression, function=function)
    return replace(
        expression, arguments=tuple(replaced(a, old, function) for a in expression.arguments)
    )


def substituted(
    expression: Expression, known: Mapping[Place, Expression | None]
) -> Expression | None:
    """With what explains a place instead of the place; None where something has no explanation."""
    if isinstance(expression, Ref):
        return known.get(expression.place, expression)
    arguments = [substituted(argument, known) for argument in expression.arguments]
    whole = [argument for argument in arguments if argument is not None]
    if len(whole) < len(arguments):
        return None
    return replace(expression, arguments=tuple(whole))


def evaluate(
    expression: Expression, dtype: str, at: Mapping[Place, np.ndarray]
) -> tuple[Approximate, Callable[[Approximate], dict[Place, Approximate]]]:
    """The value, and the pullback to every place.

    Raises:
        ValueError: if shapes do not go together.
    """
    if isinstance(expression, Ref):
        place = expression.place
        found = np.asarray(at[place], dtype=np.float64)
        return Approximate(found, np.zeros_like(found)), lambda dy: {place: dy}
    inner = [evaluate(argument, dtype, at) for argument in expression.arguments]
    y, pull = expression.function(dtype, *(value for value, _ in inner))

    def back(dy: Approximate) -> dict[Place, Approximate]:
        total: dict[Place, Approximate] = {}
        for (_, pull_inner), cotangent in zip(inner, pull(dy), strict=True):
            for place, more in pull_inner(cotangent).items():
                total[place] = added(dtype, total[place], more) if place in total else more
        return total

    return y, back


def added(dtype: str, a: Approximate, b: Approximate) -> Approximate:
    """The sum of two contributions to one cotangent."""
    return ADD(dtype, a, b)[0]


def explain(
    target: np.ndarray, sources: Sequence[tuple[Place, np.ndarray]], dtype: str, where: str = ""
) -> Expression | None:
    """What makes the target of the sources, the latest of which come last; None if nothing does.

    Tried in this order: a source as it is; one function of a source; the sum or the concatenation
    of two, with functions before and after; two and three functions. All are functions of one
    sample, so the search looks at the first, and what is found must give all of them.
    """
    latest = list(reversed(sources))
    for place, values in latest:
        if values.shape == target.shape and np.array_equal(values, target):
            return Ref(place)
    at = dict(latest)
    near = [one for one in latest if one[1].ndim and one[1].shape[0] == target.shape[0]][:_RECENT]
    first = target[:1]
    for expression, value in _grown(near, first, dtype, where):
        if value.value.shape == first.shape and fits(first, value):
            whole, _ = evaluate(expression, dtype, at)
            if fits(target, whole):
                return expression
    return None


Found: TypeAlias = "tuple[Expression, Approximate]"


def _grown(
    near: Sequence[tuple[Place, np.ndarray]], first: np.ndarray, dtype: str, where: str
) -> Iterator[Found]:
    """Expressions of the sources' first sample, simple ones first."""
    refs: list[Found] = [
        (Ref(place), Approximate(v[:1].astype(np.float64), np.zeros((1, *v.shape[1:]))))
        for place, v in near
    ]
    levels = [refs]
    for depth in range(_DEPTH):
        following: list[Found] = []
        for one in levels[-1]:
            for grown in _applied(one, first.shape, dtype, where, is_last=depth + 1 == _DEPTH):
                yield grown
                following.append(grown)
        levels.append(following)
        if depth == 1:
            yield from _joined(refs, first, dtype, where)


def _applied(
    one: Found,
    wanted: tuple[int, ...],
    dtype: str,
    where: str,
    families: Collection[str] = get_args(Family),
    *,
    is_last: bool = False,
) -> Iterator[Found]:
    """One function more; no family twice after a join: it is one of its own, or nothing."""
    expression, x = one
    shape = x.value.shape
    done, inner = set(), expression
    while isinstance(inner, Applied) and len(inner.arguments) == 1:
        done.add(inner.function.family)
        inner = inner.arguments[0]
    for function in candidates(shape):
        keeps = function.family in ("pointwise", "shuffle")
        # No function makes more elements of fewer, or a shape again that is gone.
        is_in_vain = prod(shape) < prod(wanted) or (
            (shape == wanted and function.family in ("flatten", "mean", "part"))
            or (is_last and keeps and shape != wanted)
        )
        if function.family in families and function.family not in done and not is_in_vain:
            yield Applied(function, (expression,), where), function(dtype, x)[0]


def _joined(refs: Sequence[Found], first: np.ndarray, dtype: str, where: str) -> Iterator[Found]:
    """Sums and concatenations of two, one of them perhaps through a function, and what follows."""
    before = ("pointwise", "part")
    parts = [
        (Applied(function, (ref,), where), function(dtype, x)[0])
        for ref, x in refs
        for function in candidates(x.value.shape)
        if function.family in before
    ]
    halves = [one for one in parts if _last_family(one) == "part"]
    pairs = [*product(refs, refs), *product(parts, refs), *product(refs, halves),
             *product(halves, halves)]  # fmt: skip
    shape, after = first.shape, ("pointwise", "shuffle", "mean", "flatten")
    for (a, x), (b, y) in pairs:
        for join in (ADD, CONCATENATE):
            if a == b or not _go_together(join, x.value.shape, y.value.shape):
                continue
            joined = Applied(join, (a, b), where), join(dtype, x, y)[0]
            if joined[1].value.size < first.size:
                continue
            yield joined
            for once in _applied(joined, shape, dtype, where, after):
                yield once
                if _last_family(once) == "pointwise":
                    yield from _applied(once, shape, dtype, where, after[1:], is_last=True)


def _last_family(one: Found) -> str:
    return one[0].function.family if isinstance(one[0], Applied) else ""


def _go_together(join: Function, x: tuple[int, ...], y: tuple[int, ...]) -> bool:
    if join is ADD:
        return x == y
    return len(x) == len(y) > 1 and x[2:] == y[2:]
