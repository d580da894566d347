"""The rules of JAX's primitives: of each its value in NumPy, and what it does to errors."""

from collections.abc import Callable
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
RULES["tile"] = _move(lambda v, p: np.tile(v, tuple(p["reps"])))
RULES["neg"] = lambda carry, eqn, xs: Approximate(-xs[0].value, xs[0].error)
for _name in ("copy", "copy_p", "stop_gradient", "device_put", "sharding_constraint", "pvary",
              "optimization_barrier", "layout_constraint"):  # fmt: skip
    RULES[_name] = lambda carry, eqn, xs: list(xs)
RULES["real"] = lambda carry, eqn, xs: Approximate(np.real(xs[0].value), xs[0].error)
RULES["imag"] = lambda carry, eqn, xs: Approximate(np.imag(xs[0].value), xs[0].error)
RULES["conj"] = lambda carry, eqn, xs: Approximate(np.conj(xs[0].value), xs[0].error)


@rule("complex")
def _complex(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.closed(xs[0].value + 1j * xs[1].value, xs[0].error + xs[1].error)


@rule("reduce_precision")
def _reduce_precision(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    bits = eqn.params["exponent_bits"], eqn.params["mantissa_bits"]
    if bits[1] >= 23:
        return list(xs)
    narrow = {(8, 7): "bf16", (5, 10): "f16"}.get(bits)
    if narrow is None:
        return None
    carry.narrows = True
    return carry.rules.rounded_to(narrow, xs[0], charged=carry.charged)


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
    is_index = [x.value.dtype.kind not in "fc" for x in xs]
    if values[0].dtype.kind != "f":
        sure = not any(x.error.any() for x in xs)
        return carry.rules.exactly(value) if sure else carry.rules.unknown(value)
    if any(x.error.any() for x, index in zip(xs, is_index, strict=True) if index):
        return carry.rules.unknown(value)
    errors = [x.value if index else x.error for x, index in zip(xs, is_index, strict=True)]
    error = carry.through(eqn, *errors)
    return Approximate(value, np.where(np.isnan(error) & np.isnan(value), 0.0, error))


@rule("iota", "empty", "empty2")
def _iota(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.exactly(np.asarray(carry.plainly(eqn, xs)[0]))


@rule("convert_element_type")
def _convert(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    dtype = np.dtype(eqn.params["new_dtype"]) if not is_key(xs[0].value) else None
    x = xs[0]
    if dtype is None:
        return None
    floating = jnp.issubdtype(dtype, jnp.floating)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return Approximate(x.value.astype(np.complex128), x.error)
    if x.value.dtype.kind == "f" and not floating:
        value = x.value.astype(dtype)
        if x.error.any():
            off = np.abs((x.value + x.error).astype(dtype).astype(float) - value.astype(float))
            off = np.maximum(off, np.abs((x.value - x.error).astype(dtype).astype(float) - value))
            if off.any():
                carry.unsure["a rounding to integers"] += 1
            return Approximate(value, off)
        return carry.rules.exactly(value)
    return carry.rules.stored(
        Approximate(x.value.astype(np.float64 if floating else dtype), x.error)
    )


@rule("add", "add_any")
def _add(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    value = xs[0].value + xs[1].value
    if value.dtype.kind not in "fc":
        return Approximate(value, xs[0].error + xs[1].error)
    return carry.rules.added(xs[0], xs[1], value)


@rule("sub")
def _sub(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    value = xs[0].value - xs[1].value
    if value.dtype.kind not in "fc":
        return Approximate(value, xs[0].error + xs[1].error)
    return carry.rules.added(xs[0], xs[1], value)


@rule("mul")
def _mul(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    value = xs[0].value * xs[1].value
    if value.dtype.kind not in "fc":
        sure = not (xs[0].error.any() or xs[1].error.any())
        return carry.rules.exactly(value) if sure else carry.rules.unknown(value)
    return carry.rules.multiplied(xs[0], xs[1], value)


@rule("div")
def _div(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    if xs[0].value.dtype.kind not in "fc":
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
    if xs[0].value.dtype.kind == "c":
        if eqn.primitive.name != "exp":
            return None
        size = carry.rules.monotone(np.exp, Approximate(xs[0].value.real, xs[0].error))
        angle = Approximate(xs[0].value.imag, xs[0].error)
        return carry.rules.turned(size, angle, np.exp(xs[0].value))
    return carry.rules.monotone(_MONOTONE[eqn.primitive.name], xs[0])


@rule("tan")
def _tan(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    """Rises between two poles; across one nothing is known."""
    x = xs[0]
    with np.errstate(all="ignore"):
        poles = (
            np.floor((x.value + x.error) / np.pi + 0.5),
            np.floor((x.value - x.error) / np.pi + 0.5),
        )
    tangent = carry.rules.monotone(np.tan, x)
    return Approximate(tangent.value, np.where(poles[0] == poles[1], tangent.error, np.inf))


@rule("cosh")
def _cosh(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    """(e^x + e^-x) / 2."""
    x = xs[0]
    with np.errstate(all="ignore"):
        up = carry.rules.monotone(np.exp, x)
        down = carry.rules.monotone(np.exp, Approximate(-x.value, x.error))
        total = carry.rules.added(up, down, up.value + down.value)
        return Approximate(total.value / 2, total.error / 2)


@rule("atan2")
def _atan2(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    """An angle moves by less than the distance that its point moves ÷ how near to 0 it gets."""
    y, x = xs
    with np.errstate(all="ignore"):
        reach = np.hypot(y.error, x.error)
        least = np.hypot(y.value, x.value) - reach
        wraps = (x.value - x.error < 0) & (np.abs(y.value) <= y.error) & (reach > 0)
        carried = np.where(
            reach == 0, 0.0, np.where((least <= 0) | wraps, np.inf, 2 * reach / least)
        )
        return carry.rules.rounded(np.arctan2(y.value, x.value), carried)


RULES["sin"] = lambda carry, eqn, xs: carry.rules.wave(xs[0], np.sin(xs[0].value))
RULES["cos"] = lambda carry, eqn, xs: carry.rules.wave(xs[0], np.cos(xs[0].value))
RULES["abs"] = lambda carry, eqn, xs: carry.rules.size(xs[0], np.abs(xs[0].value))


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
    extreme = np.maximum if eqn.primitive.name == "max" else np.minimum
    value = extreme(a.value, b.value)
    if value.dtype.kind == "f" and value.size > 1 and np.size(b.value) == 1 and not b.error.any():
        carry.idle += carry.rules.is_idle(lambda v: extreme(v, b.value.reshape(-1)), a.value)
    return carry.rules.largest(extreme, a, b, value=value)


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
    if low.value.size == high.value.size == 1 and x.value.size > 1:
        carry.idle += carry.rules.is_idle(f, x.value)
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
