"""The rules of JAX's primitives: of each its value in NumPy, and what it does to errors."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from conformance.arithmetic.running import Approximate
from conformance.compare import kinds
from conformance.compare.jaxpr_model import RULES, Carry, Rule, is_key, rule


def _broadcast(p: Any, v: np.ndarray) -> np.ndarray:
    middle = [1] * len(p["shape"])
    for axis, place in enumerate(p["broadcast_dimensions"]):
        middle[place] = v.shape[axis]
    return np.broadcast_to(v.reshape(middle), p["shape"])


def _sliced(p: Any, v: np.ndarray) -> np.ndarray:
    steps = p["strides"] or [1] * v.ndim
    return v[tuple(map(slice, p["start_indices"], p["limit_indices"], steps))]


# What only moves, repeats or leaves out elements: a function of the parameters and the arrays.
_MOVED: dict[str, Callable[..., Any]] = {
    "reshape": lambda p, v: (
        v if p["dimensions"] is None else v.transpose(p["dimensions"])
    ).reshape(p["new_sizes"]),
    "transpose": lambda p, v: v.transpose(p["permutation"]),
    "squeeze": lambda p, v: v.squeeze(tuple(p["dimensions"])),
    "expand_dims": lambda p, v: np.expand_dims(v, tuple(p["dimensions"])),
    "rev": lambda p, v: np.flip(v, tuple(p["dimensions"])),
    "tile": lambda p, v: np.tile(v, tuple(p["reps"])),
    "broadcast_in_dim": _broadcast,
    "slice": _sliced,
    "concatenate": lambda p, *vs: np.concatenate(vs, p["dimension"]),
    "stack": lambda p, *vs: np.stack(vs, p["axis"]),
    "unstack": lambda p, v: list(np.moveaxis(v, p["axis"], 0)),
    "split": lambda p, v: np.split(v, np.cumsum(p["sizes"])[:-1], p["axis"]),
}


@rule(*_MOVED)
def _moved(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    how = _MOVED[eqn.primitive.name]
    values = how(eqn.params, *(x.value for x in xs))
    errors = how(eqn.params, *(x.error for x in xs))
    if not isinstance(values, list):
        return Approximate(values, errors)
    return [Approximate(v, e) for v, e in zip(values, errors, strict=True)]


def _part(f: Callable[[np.ndarray], np.ndarray]) -> Rule:
    return lambda carry, eqn, xs: Approximate(f(xs[0].value), xs[0].error)


RULES |= {"neg": _part(np.negative), "real": _part(np.real), "imag": _part(np.imag),
          "conj": _part(np.conj)}  # fmt: skip
for _name in ("copy", "copy_p", "stop_gradient", "device_put", "sharding_constraint", "pvary",
              "optimization_barrier", "layout_constraint"):  # fmt: skip
    RULES[_name] = lambda carry, eqn, xs: list(xs)


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


@rule("pad", "gather", "dynamic_slice", "dynamic_update_slice", "scatter")
def _by_jax(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    """Floats move; where an index is off by one, a result is off by what lies there."""
    values = [x.value for x in xs]
    value = carry.through(eqn, *values)
    is_index = [x.value.dtype.kind not in "fc" for x in xs]
    if is_index[0]:
        sure = not any(x.error.any() for x in xs)
        return carry.rules.exactly(value) if sure else carry.rules.unknown(value)
    errors = [x.value if index else x.error for x, index in zip(xs, is_index, strict=True)]
    error = carry.through(eqn, *errors)
    error = np.where(np.isnan(error) & np.isnan(value), 0.0, error)
    most = max((x.error.max(initial=0.0) for x in xs if x.value.dtype.kind not in "fc"), default=0)
    if most > 1:
        return carry.rules.unknown(value)
    off = np.zeros(value.shape)
    for sign in (1, -1) if most else ():
        near = [x.value + (sign * x.error).astype(x.value.dtype) if index else x.value
                for x, index in zip(xs, is_index, strict=True)]  # fmt: skip
        off = np.maximum(off, np.abs(carry.through(eqn, *near) - value))
    return Approximate(value, np.where(np.isnan(off), np.inf, error + off))


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
    x = Approximate(np.real(x.value), x.error)  # What a complex number becomes otherwise.
    if x.value.dtype.kind == "f" and not floating:
        whole = x.value.astype(dtype)
        return kinds.stepped(kinds.Operation(carry, "", xs, lambda v: v.astype(dtype), whole))
    return carry.rules.stored(
        Approximate(x.value.astype(np.float64 if floating else dtype), x.error)
    )


@rule("div")
def _div(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    if xs[0].value.dtype.kind not in "fc":
        return carry.rules.exactly(np.asarray(carry.plainly(eqn, xs)[0]))
    return carry.rules.divided(xs[0], xs[1], xs[0].value / xs[1].value)


@rule("integer_pow", "square")
def _integer_pow(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    y = eqn.params.get("y", 2)
    value = xs[0].value.astype(float) ** y if y < 0 else xs[0].value ** y
    return carry.rules.power(xs[0], float(y), value)


def _by_lax(f: Any) -> Any:
    return lambda v: np.asarray(f(jnp.asarray(v, dtype=jnp.float64)))


# Of each kind the operations, and what they are in NumPy.
_KINDS: dict[str, dict[str, Any]] = {
    "added": {"add": np.add, "add_any": np.add, "sub": np.subtract},
    "multiplied": {"mul": np.multiply},
    "power": {"pow": lambda a, b: np.power(a.astype(float), b)},
    "wave": {"sin": np.sin, "cos": np.cos},
    "size": {"abs": np.abs},
    "stepped": {"sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.round},
    "extreme": {"max": np.maximum, "min": np.minimum},
    "compared": {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "gt": np.greater,
                 "le": np.less_equal, "ge": np.greater_equal},
    "monotone": {
        "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p,
        "tanh": np.tanh, "sinh": np.sinh, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
        "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "sqrt": np.sqrt,
        "rsqrt": lambda v: 1 / np.sqrt(v), "cbrt": np.cbrt,
        "logistic": lambda v: 1 / (1 + np.exp(-v)),
        "erf": _by_lax(lax.erf), "erfc": _by_lax(lax.erfc), "erf_inv": _by_lax(lax.erf_inv),
    },
}  # fmt: skip


def _of_kind(kind: kinds.Kind, f: Any) -> Rule:
    def rule(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
        if is_key(xs[0].value):
            return None
        value = f(*(x.value for x in xs))
        return kind(kinds.Operation(carry, eqn.primitive.name, xs, f, value))

    return rule


for _kind, _functions in _KINDS.items():
    RULES.update({_name: _of_kind(kinds.KINDS[_kind], _f) for _name, _f in _functions.items()})


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


@rule("clamp")
def _clamp(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    low, x, high = xs

    def f(v: np.ndarray) -> np.ndarray:
        return np.clip(v, low.value, high.value).astype(v.dtype)

    return kinds.clipped(kinds.Operation(carry, "clamp", (x, low, high), f, f(x.value)))


@rule("and", "or", "xor", "not", "is_finite", "rem", "shift_left", "shift_right_logical",
      "shift_right_arithmetic", "population_count", "clz", "nextafter")  # fmt: skip
def _discrete(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    value = carry.plainly(eqn, xs)[0]
    if eqn.primitive.name == "is_finite":
        return carry.rules.exactly(value)
    return kinds.discrete(kinds.Operation(carry, eqn.primitive.name, xs, np.array, value))


@rule("select_n")
def _select(carry: Carry, eqn: Any, xs: list[Approximate]) -> Any:
    return carry.rules.chosen(xs[0], xs[1:])
