"""The code between layers, as an expression that explains what was captured at its end.

No source is read: of the functions that models are made of, those are found that give, from what
was captured earlier, what was captured later, inside the derived error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

import numpy as np

from conformance.oracle.numbers.running import Approximate
from conformance.porting.distance import fits
from conformance.porting.functions import ADD, CONCATENATE, Function, candidates

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

    Tried in this order: a source as it is, one to three functions of one source, the sum or the
    concatenation of two, with up to one function before and one after.
    """
    latest = list(reversed(sources))
    for place, values in latest:
        if values.shape == target.shape and np.array_equal(values, target):
            return Ref(place)
    near = latest[:_RECENT]
    exact = [(Ref(p), Approximate(v.astype(float), np.zeros(v.shape)), v) for p, v in near]
    level: list[tuple[Expression, Approximate]] = [(ref, x) for ref, x, _ in exact]
    single: list[tuple[Expression, Approximate]] = list(level)
    for depth in range(_DEPTH):
        following: list[tuple[Expression, Approximate]] = []
        for expression, x in level:
            for function in candidates(x.value.shape):
                if _repeats(expression, function):
                    continue
                grown = Applied(function, (expression,), where)
                y, _ = function(dtype, x)
                if fits(target, y):
                    return grown
                if depth + 1 < _DEPTH and y.value.size >= target.size:
                    following.append((grown, y))
        single += following if depth == 0 else []
        level = following
        if depth == 0:
            joined = _joined(target, single, dtype, where)
            if joined is not None:
                return joined
    return None


def _repeats(expression: Expression, function: Function) -> bool:
    """No family twice in a row: what is done twice is a function of its own, or nothing."""
    return any(node.function.family == function.family for node in nodes_of(expression))


def _joined(
    target: np.ndarray,
    single: Sequence[tuple[Expression, Approximate]],
    dtype: str,
    where: str,
) -> Expression | None:
    for (a, x), (b, y) in product(single, repeat=2):
        if x.value.ndim != y.value.ndim or a == b:
            continue
        for join in (ADD, CONCATENATE):
            alike = x.value.shape == y.value.shape
            if join is CONCATENATE:
                alike = (
                    x.value.shape[:1] + x.value.shape[2:] == y.value.shape[:1] + y.value.shape[2:]
                )
            if not alike or (join is ADD and x.value.shape != target.shape):
                continue
            z, _ = join(dtype, x, y)
            if z.value.size != target.size:
                continue
            expression = Applied(join, (a, b), where)
            if fits(target, z):
                return expression
            for function in candidates(z.value.shape):
                if function.family in ("pointwise", "shuffle"):
                    w, _ = function(dtype, z)
                    if fits(target, w):
                        return Applied(function, (expression,), where)
    return None
