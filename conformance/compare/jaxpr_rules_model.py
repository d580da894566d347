"""The rules of JAX's primitives: of each its value in NumPy, and what it does to errors."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from conformance.arithmetic.running import Approximate
from conformance.compare.jaxpr_model import RULES, Carry, Rule, is_key, rule


def _move(how: Callable[[np.ndarray, Any], np.ndarray]) -> Rule:
    return lambda carry, eqn, xs: carry.rules.moved(lambda v: how(v, eqn.params), xs[0])


RULES["reshape"] = _move(
    lambda v, p: (v if p["dimensions"] is None else v.transpose(p["dimensions"])).reshape(
        p["new_sizes"]
    )
)
RULES["transpose"] = _move(lambda v, p: v.transpose(p["permutation"]))
RULES["squeeze"] = _move(lambda v, p: v.squeeze(tuple(p["dimensions"])))
RULES["expand_dims"] = _move(lambda v, p: np.expand_dims(v, tuple(p["dimensions"])))
RULES["rev"] = _move(lambda v, p: np.flip(v, tuple(p["dimensions"])))
RULES["neg"] = lambda carry, eqn, xs: Approximate(-xs[0].value, xs[0].error)
for _name in ("copy", "copy_p", "stop_gradient", "device_put", "sharding_constraint", "pvary",
              "optimization_barrier", "layout_constraint", "reduce_precision", "real"):  # fmt: skip
    RULES[_name] = lambda carry, eqn, xs: list(xs)


@rule("broadcast_in_dim")
def _broadcast(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    shape, places = eqn.params["shape"], eqn.params["broadcast_dimensions"]

    def how(v: np.ndarray) -> np.ndarray:
        middle = [1] * len(shape)
        for axis, place in enumerate(places):
            middle[place] = v.shape[axis]
        return np.broadcast_to(v.reshape(middle), shape)

    return carry.rules.moved(how, xs[0])


@rule("slice")
def _slice(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    p = eqn.params
    steps = p["strides"] or [1] * len(p["start_indices"])
    index = tuple(map(slice, p["start_indices"], p["limit_indices"], steps))
    return carry.rules.moved(lambda v: v[index], xs[0])


@rule("concatenate")
def _concatenate(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.moved(lambda *vs: np.concatenate(vs, eqn.params["dimension"]), *xs)


@rule("stack")
def _stack(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.moved(lambda *vs: np.stack(vs, eqn.params["axis"]), *xs)


@rule("unstack")
def _unstack(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    values = np.moveaxis(xs[0].value, eqn.params["axis"], 0)
    errors = np.moveaxis(xs[0].error, eqn.params["axis"], 0)
    return [Approximate(v, e) for v, e in zip(values, errors, strict=True)]


@rule("split")
def _split(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    ends = np.cumsum(eqn.params["sizes"])[:-1]
    values = np.split(xs[0].value, ends, eqn.params["axis"])
    errors = np.split(xs[0].error, ends, eqn.params["axis"])
    return [Approximate(v, e) for v, e in zip(values, errors, strict=True)]


@rule("pad", "gather", "dynamic_slice", "dynamic_update_slice", "scatter")
def _by_jax(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    """Floats move; an index that is unsure leaves nothing known."""
    values = [x.value for x in xs]
    value = carry.through(eqn, *values)
    is_index = [x.value.dtype.kind != "f" for x in xs]
    if values[0].dtype.kind != "f":
        sure = not any(x.error.any() for x in xs)
        return carry.rules.exactly(value) if sure else carry.rules.unknown(value)
    if any(x.error.any() for x, index in zip(xs, is_index, strict=True) if index):
        return carry.rules.unknown(value)
    errors = [x.value if index else x.error for x, index in zip(xs, is_index, strict=True)]
    error = carry.through(eqn, *errors)
    return Approximate(value, np.where(np.isnan(error) & np.isnan(value), 0.0, error))


@rule("iota")
def _iota(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.exactly(np.asarray(carry.plainly(eqn, xs)[0]))


@rule("convert_element_type")
def _convert(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    dtype = np.dtype(eqn.params["new_dtype"]) if not is_key(xs[0].value) else None
    x = xs[0]
    if dtype is None:
        return None
    floating = jnp.issubdtype(dtype, jnp.floating)
    if x.value.dtype.kind == "f" and not floating:
        value = x.value.astype(dtype)
        if x.error.any():
            off = np.abs((x.value + x.error).astype(dtype).astype(float) - value.astype(float))
            off = np.maximum(off, np.abs((x.value - x.error).astype(dtype).astype(float) - value))
            if off.any():
                carry.unsure["a rounding to integers"] += 1
            return Approximate(value, off)
        return carry.rules.exactly(value)
    return Approximate(x.value.astype(np.float64 if floating else dtype), x.error)


@rule("add", "add_any")
def _add(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    value = xs[0].value + xs[1].value
    if value.dtype.kind != "f":
        return Approximate(value, xs[0].error + xs[1].error)
    return carry.rules.added(xs[0], xs[1], value)


@rule("sub")
def _sub(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    value = xs[0].value - xs[1].value
    if value.dtype.kind != "f":
        return Approximate(value, xs[0].error + xs[1].error)
    return carry.rules.added(xs[0], xs[1], value)


@rule("mul")
def _mul(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    value = xs[0].value * xs[1].value
    if value.dtype.kind != "f":
        sure = not (xs[0].error.any() or xs[1].error.any())
        return carry.rules.exactly(value) if sure else carry.rules.unknown(value)
    return carry.rules.multiplied(xs[0], xs[1], value)


@rule("div")
def _div(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    if xs[0].value.dtype.kind != "f":
        return carry.rules.exactly(np.asarray(carry.plainly(eqn, xs)[0]))
    return carry.rules.divided(xs[0], xs[1], xs[0].value / xs[1].value)


@rule("integer_pow")
def _integer_pow(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    y = eqn.params["y"]
    value = xs[0].value.astype(float) ** y if y < 0 else xs[0].value ** y
    return carry.rules.power(xs[0], float(y), value)


@rule("square")
def _square(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.power(xs[0], 2.0, xs[0].value * xs[0].value)


@rule("pow")
def _pow(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    base, exponent = xs
    value = np.power(base.value.astype(float), exponent.value)
    if not exponent.error.any() and exponent.value.size == 1:
        return carry.rules.power(base, float(exponent.value.reshape(-1)[0]), value)
    log = carry.rules.monotone(np.log, base)
    inner = carry.rules.multiplied(log, exponent, log.value * exponent.value)
    return carry.rules.monotone(np.exp, inner, value)


def _erf(v: np.ndarray) -> np.ndarray:
    return np.asarray(lax.erf(jnp.asarray(v, dtype=jnp.float64)))


_MONOTONE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p,
    "tanh": np.tanh, "sinh": np.sinh, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "sqrt": np.sqrt,
    "rsqrt": lambda v: 1 / np.sqrt(v), "cbrt": np.cbrt,
    "logistic": lambda v: 1 / (1 + np.exp(-v)),
    "erf": _erf, "erfc": lambda v: np.asarray(lax.erfc(jnp.asarray(v, dtype=jnp.float64))),
    "erf_inv": lambda v: np.asarray(lax.erf_inv(jnp.asarray(v, dtype=jnp.float64))),
}  # fmt: skip


@rule(*_MONOTONE)
def _monotone(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.monotone(_MONOTONE[eqn.primitive.name], xs[0])


RULES["sin"] = lambda carry, eqn, xs: carry.rules.wave(xs[0], np.sin(xs[0].value))
RULES["cos"] = lambda carry, eqn, xs: carry.rules.wave(xs[0], np.cos(xs[0].value))
RULES["abs"] = lambda carry, eqn, xs: carry.rules.lipschitz(xs[0], np.abs(xs[0].value))


@rule("sign", "floor", "ceil", "round")
def _step(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    f: Any = getattr(np, eqn.primitive.name)
    value = f(xs[0].value)
    if not xs[0].error.any():
        return carry.rules.exactly(value)
    ends = (np.abs(f(xs[0].value + s * xs[0].error) - value) for s in (-1, 1))
    off = np.maximum(*ends)
    if off.any():
        carry.unsure["a rounding to integers"] += 1
    return carry.rules.closed(value, off)


@rule("max", "min")
def _extreme(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    a, b = xs
    value = (np.maximum if eqn.primitive.name == "max" else np.minimum)(a.value, b.value)
    reach = a.error + b.error
    first, second = np.abs(value - b.value) > reach, np.abs(value - a.value) > reach
    error = np.where(first, a.error, np.where(second, b.error, np.maximum(a.error, b.error)))
    return carry.rules.closed(value, error)


@rule("clamp")
def _clamp(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    low, x, high = xs

    def f(v: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(v, low.value, high.value))

    if low.error.any() or high.error.any():
        return carry.rules.lipschitz(
            Approximate(x.value, x.error + low.error + high.error), f(x.value)
        )
    if x.value.dtype.kind != "f":
        return Approximate(f(x.value).astype(x.value.dtype), x.error)
    return carry.rules.clipped(f, x, f(x.value))


_COMPARE: dict[str, Any] = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "gt": np.greater,
                            "le": np.less_equal, "ge": np.greater_equal}  # fmt: skip


@rule(*_COMPARE)
def _compare(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    name = eqn.primitive.name
    if is_key(xs[0].value):
        return None
    compared = carry.rules.compared(name, xs[0], xs[1], _COMPARE[name](xs[0].value, xs[1].value))
    if compared.error.any():
        carry.unsure[f"a comparison ({name})"] += int(compared.error.sum())
    return compared


@rule("and", "or", "xor", "not", "is_finite", "rem", "shift_left", "shift_right_logical",
      "shift_right_arithmetic", "population_count", "clz", "nextafter")  # fmt: skip
def _discrete(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    value = carry.plainly(eqn, xs)[0]
    if eqn.primitive.name == "is_finite" or not any(x.error.any() for x in xs):
        return carry.rules.exactly(value)
    if xs[0].value.dtype == bool:
        return Approximate(value, np.broadcast_to(sum(x.error for x in xs) > 0, value.shape) * 1.0)
    return carry.rules.unknown(value)


@rule("select_n")
def _select(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.chosen(xs[0], xs[1:])


def _count(shape: Sequence[int], axes: Sequence[int]) -> int:
    return prod(shape[axis] for axis in axes)


@rule("reduce_sum")
def _reduce_sum(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    axes = tuple(eqn.params["axes"])
    if xs[0].value.dtype.kind != "f":
        return Approximate(xs[0].value.sum(axes), xs[0].error.sum(axes))
    return carry.rules.summed(lambda v: v.sum(axes), xs[0], _count(xs[0].value.shape, axes))


@rule("cumsum")
def _cumsum(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    axis, back = eqn.params["axis"], eqn.params["reverse"]

    def f(v: np.ndarray) -> np.ndarray:
        return np.flip(np.flip(v, axis).cumsum(axis), axis) if back else v.cumsum(axis)

    if xs[0].value.dtype.kind != "f":
        return Approximate(f(xs[0].value), f(xs[0].error))
    return carry.rules.summed(f, xs[0], xs[0].value.shape[axis])


@rule("reduce_max", "reduce_min")
def _reduce_max(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    axes = tuple(eqn.params["axes"])
    f = np.max if eqn.primitive.name == "reduce_max" else np.min
    return carry.rules.closed(f(xs[0].value, axis=axes), xs[0].error.max(axes, initial=0.0))


@rule("reduce_and", "reduce_or")
def _reduce_logic(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    axes = tuple(eqn.params["axes"])
    f = np.all if eqn.primitive.name == "reduce_and" else np.any
    return Approximate(f(xs[0].value, axis=axes), xs[0].error.max(axes, initial=0.0))


@rule("argmax", "argmin")
def _argmax(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    (axis,) = eqn.params["axes"]
    v = xs[0].value if eqn.primitive.name == "argmax" else -xs[0].value
    best = v.argmax(axis)
    low = np.take_along_axis(v - xs[0].error, np.expand_dims(best, axis), axis)
    unsure = ((v + xs[0].error >= low).sum(axis) > 1) & xs[0].error.any()
    if unsure.any():
        carry.unsure["the order at a maximum (argmax)"] += int(unsure.sum())
    return Approximate(best.astype(eqn.outvars[0].aval.dtype), unsure.astype(float))


@rule("sort")
def _sort(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    values = [np.asarray(v) for v in carry.plainly(eqn, xs)]
    key = xs[0]
    if not any(x.error.any() for x in xs):
        return [carry.rules.exactly(v) for v in values]
    gaps = np.diff(values[0].astype(float), axis=eqn.params["dimension"])
    most = key.error.max()
    if (np.abs(gaps) <= 2 * most).any() and most > 0:
        carry.unsure["the order of a sort"] += 1
        rest = [carry.rules.unknown(v) for v in values[1:]]
        return [Approximate(values[0], np.full(values[0].shape, most)), *rest]
    order = np.argsort(key.value, axis=eqn.params["dimension"], kind="stable")
    errors = [np.take_along_axis(x.error, order, eqn.params["dimension"]) for x in xs]
    return [Approximate(v, e) for v, e in zip(values, errors, strict=True)]


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


@rule("reduce_window_sum")
def _window_sum(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    terms = prod(eqn.params["window_dimensions"])
    return carry.rules.summed(lambda v: carry.through(eqn, v), xs[0], terms)


@rule("reduce_window_max")
def _window_max(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    error = carry.through(eqn, xs[0].error)
    return carry.rules.closed(carry.through(eqn, xs[0].value), np.maximum(error, 0.0))


@rule("reduce_window_min")
def _window_min(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    error = -carry.through(eqn, -xs[0].error)
    return carry.rules.closed(carry.through(eqn, xs[0].value), np.maximum(error, 0.0))


@rule("select_and_scatter_add")
def _select_and_scatter_add(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    """Whether the winner of a window is unsure shows by moving operands within their errors."""
    source, operand = xs
    value = carry.through(eqn, source.value, operand.value)

    def f(v: np.ndarray, at: np.ndarray) -> np.ndarray:
        return carry.through(eqn, v, at)

    terms = prod(eqn.params["window_dimensions"])
    pulled = carry.rules.summed(lambda v: f(v, operand.value), source, terms)
    if operand.error.any():
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (2, *operand.error.shape))
        for sign in signs:
            off = np.abs(f(source.value, operand.value + sign * operand.error) - value)
            if off.any():
                carry.unsure["the order at a max pool"] += int((off > 0).sum())
                return carry.rules.unknown(value)
    return pulled
