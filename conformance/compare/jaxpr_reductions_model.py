"""The rules of JAX's reductions, sorts, products, convolutions, scatters and windows."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from conformance.arithmetic.running import Approximate
from conformance.compare import kinds
from conformance.compare.jaxpr_model import Carry, rule


def _count(shape: Sequence[int], axes: Sequence[int]) -> int:
    return prod(shape[axis] for axis in axes)


# By the rule that a reduction follows, and what it is in NumPy.
_REDUCTIONS: dict[str, tuple[str, Any]] = {
    "reduce_sum": ("summed", np.sum), "cumsum": ("summed", np.cumsum),
    "reduce_prod": ("factors", np.prod), "cumprod": ("factors", np.cumprod),
    "reduce_max": ("largest", np.max), "cummax": ("largest", np.maximum.accumulate),
    "reduce_min": ("largest", np.min), "cummin": ("largest", np.minimum.accumulate),
}  # fmt: skip


@rule(*_REDUCTIONS)
def _reduced(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    (x,), p, rules = xs, eqn.params, carry.rules
    follows, function = _REDUCTIONS[eqn.primitive.name]
    axes = tuple(p["axes"]) if "axes" in p else (p["axis"],)
    f = _along(eqn, function) if "axis" in p else lambda v: function(v, axis=axes)
    if follows == "largest":
        return rules.largest(f, x)
    if follows == "factors":
        return rules.factors(f, x, _count(x.value.shape, axes))
    if x.value.dtype.kind not in "fc":
        return Approximate(f(x.value), f(x.error))
    return rules.summed(f, x, _count(x.value.shape, axes))


def _along(eqn: Any, f: Any) -> Any:
    """A cumulative function of NumPy, perhaps from the end."""
    axis, back = eqn.params["axis"], eqn.params["reverse"]
    return lambda v: np.flip(f(np.flip(v, axis), axis), axis) if back else f(v, axis)


@rule("cumlogsumexp")
def _cumlogsumexp(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    """No further apart than its arguments are; the sum of exponentials is rounded."""
    value = _along(eqn, np.logaddexp.accumulate)(xs[0].value)
    carried = _along(eqn, np.maximum.accumulate)(xs[0].error)
    size = 1 + np.abs(value) + np.abs(_along(eqn, np.maximum.accumulate)(xs[0].value))
    terms = 16 * (xs[0].value.shape[eqn.params["axis"]] + 4)
    return carry.rules.closed(value, carried + terms * carry.rules.unit * size)


@rule("reduce_and", "reduce_or")
def _reduce_logic(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    axes = tuple(eqn.params["axes"])
    f = np.all if eqn.primitive.name == "reduce_and" else np.any
    return Approximate(f(xs[0].value, axis=axes), xs[0].error.max(axes, initial=0.0))


@rule("argmax", "argmin")
def _argmax(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    (axis,) = eqn.params["axes"]
    best, unsure = kinds.place_of_largest(carry, eqn.primitive.name, xs[0], axis)
    return Approximate(best.astype(eqn.outvars[0].aval.dtype), unsure)


@rule("sort")
def _sort(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    values, axis = [np.asarray(v) for v in carry.plainly(eqn, xs)], eqn.params["dimension"]
    if kinds.is_order_unsure(carry, xs[0], axis):
        rest = [carry.rules.unknown(v) for v in values[1:]]
        return [Approximate(values[0], np.full(values[0].shape, xs[0].error.max())), *rest]
    order = np.argsort(xs[0].value, axis=axis, kind="stable")
    errors = [np.take_along_axis(x.error, order, axis) for x in xs]
    return [Approximate(v, e) for v, e in zip(values, errors, strict=True)]


@rule("top_k")
def _top_k(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    value, index = carry.plainly(eqn, xs)
    axis = eqn.params["axis"]
    if kinds.is_order_unsure(carry, xs[0], axis, eqn.params["k"]):
        most = np.full(value.shape, xs[0].error.max())
        return [Approximate(value, most), carry.rules.unknown(index)]
    error = np.take_along_axis(xs[0].error, index.astype(np.int64), axis)
    return [Approximate(value, error), carry.rules.exactly(index)]


@rule("dot_general")
def _dot(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    (ca, cb), (ba, bb) = eqn.params["dimension_numbers"]

    def laid(v: np.ndarray, contracted: Any, batch: Any, *, last: bool) -> np.ndarray:
        free = [i for i in range(v.ndim) if i not in contracted and i not in batch]
        order = [*batch, *free, *contracted] if last else [*batch, *contracted, *free]
        flat = v.transpose(order)
        b, f = _count(v.shape, batch), _count(v.shape, free)
        k = _count(v.shape, contracted)
        return flat.reshape((b, f, k) if last else (b, k, f))

    a, b = xs[0].value, xs[1].value
    shape = [a.shape[i] for i in ba]
    shape += [a.shape[i] for i in range(a.ndim) if i not in ca and i not in ba]
    shape += [b.shape[i] for i in range(b.ndim) if i not in cb and i not in bb]

    def f(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = np.broadcast_to(x, a.shape), np.broadcast_to(y, b.shape)
        return (laid(x, ca, ba, last=True) @ laid(y, cb, bb, last=False)).reshape(shape)

    return carry.rules.bilinear(f, xs[0], xs[1], _count(a.shape, ca))


@rule("conv_general_dilated")
def _conv(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    numbers = eqn.params["dimension_numbers"]
    kernel = xs[1].value.shape
    terms = prod(kernel) // max(kernel[numbers.rhs_spec[0]], 1)
    return carry.rules.bilinear(lambda a, b: carry.through(eqn, a, b), xs[0], xs[1], terms)


@rule("fft")
def _fourier(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    axes = tuple(range(-len(eqn.params["fft_lengths"]), 0))
    return carry.rules.transformed(xs[0], axes, carry.through(eqn, xs[0].value))


@rule("scatter-add", "scatter_add")
def _scatter_add(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    operand, index, updates = xs
    if index.error.any():
        return carry.rules.unknown(carry.through(eqn, operand.value, index.value, updates.value))
    value = carry.through(eqn, operand.value, index.value, updates.value)
    carried = carry.through(eqn, operand.error, index.value, updates.error)
    size = carry.through(eqn, np.abs(operand.value) + operand.error, index.value,
                         np.abs(updates.value) + updates.error)  # fmt: skip
    return carry.rules.closed(value, carried + (updates.value.size + 1) * carry.rules.unit * size)


@rule("scatter-max", "scatter_max", "scatter-min", "scatter_min")
def _scatter_max(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    operand, index, updates = xs

    def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return carry.through(eqn, a, index.value, b)

    if index.error.any():
        return carry.rules.unknown(f(operand.value, updates.value))
    return carry.rules.largest(f, operand, updates)


@rule("reduce_window_sum")
def _window_sum(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    terms = prod(eqn.params["window_dimensions"])
    return carry.rules.summed(lambda v: carry.through(eqn, v), xs[0], terms)


@rule("reduce_window_max", "reduce_window_min")
def _window_max(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.largest(lambda v: carry.through(eqn, v), xs[0])


@rule("select_and_scatter_add")
def _select_and_scatter_add(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    source, operand = xs
    p = eqn.params
    if operand.error.any():
        sign = 1 if p["select_prim"].name == "ge" else -1
        at = Approximate(sign * operand.value, operand.error)
        seen = kinds.windows(at, p["window_dimensions"], p["window_strides"], p["padding"])
        if kinds.place_of_largest(carry, "max_pool", seen, -1)[1].any():
            return carry.rules.unknown(carry.through(eqn, source.value, operand.value))
    terms = prod(p["window_dimensions"])
    return carry.rules.summed(lambda v: carry.through(eqn, v, operand.value), source, terms)
