"""The rules of torch's operations: of each what it does to errors, by the rules of `rules.py`."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map

from conformance.arithmetic.running import Approximate
from conformance.compare import kinds
from conformance.compare.aten_model import RULES, Carry, Rule, rule, tensor_of, values_of

# Of each kind the operations, by how many of their arguments have errors.
_KINDS = {
    ("monotone", 1): "exp exp2 expm1 log log2 log10 log1p tanh sigmoid erf erfc erfinv sqrt rsqrt "
                     "special_ndtri special_log_ndtr asin acos atan asinh acosh atanh sinh",
    ("wave", 1): "sin cos",
    ("size", 1): "abs",
    ("stepped", 1): "floor ceil round trunc sign sgn",
    ("largest", 1): "amax amin",
    ("multiplied", 2): "mul",
    ("power", 2): "pow",
    ("compared", 2): "gt lt ge le eq ne",
    ("extreme", 2): "maximum minimum",
    ("discrete", 1): "bitwise_not logical_not",
    ("discrete", 2): "bitwise_and bitwise_or bitwise_xor logical_and logical_or logical_xor",
}  # fmt: skip
_MOVES = {
    "clone", "index", "_unsafe_index", "index_select", "gather", "embedding", "cat", "stack",
    "flip",
    "roll", "repeat", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "slice_scatter",
    "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d", "copy",
    "select_scatter", "tril", "triu", "im2col", "pixel_shuffle", "pixel_unshuffle", "take",
    "channel_shuffle", "masked_select", "select_backward", "neg",
    "slice_backward", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "rot90",
    "diag_embed", "diagonal_backward", "index_copy", "scatter", "repeat_interleave", "_to_copy",
    "masked_scatter", "lift_fresh_copy", "alias_copy", "diagonal_scatter", "as_strided_scatter",
    "block_diag", "trace_backward", "unfold_copy", "convert_element_type", "_reshape_copy",
}  # fmt: skip
_SUMS = {
    "sum", "mean", "cumsum", "embedding_dense_backward", "scatter_add", "index_add", "col2im",
    "unfold_backward", "avg_pool2d", "avg_pool3d", "avg_pool2d_backward",
    "avg_pool3d_backward", "_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool3d", "_adaptive_avg_pool3d_backward", "upsample_nearest1d_backward",
    "upsample_nearest2d_backward", "upsample_nearest3d_backward", "upsample_bilinear2d_backward",
    "upsample_linear1d_backward", "upsample_trilinear3d_backward", "reflection_pad1d_backward",
    "reflection_pad2d_backward", "replication_pad1d_backward", "replication_pad2d_backward",
    "replication_pad3d_backward",
    "trace", "index_put",
}  # fmt: skip
_FACTORIES = {"empty", "zeros", "ones", "full", "arange", "linspace", "eye", "empty_like",
              "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "iota",
              "new_empty", "scalar_tensor", "empty_strided", "tril_indices", "triu_indices", "fill",
              "new_empty_strided", "isnan", "isinf", "isfinite", "zero", "empty_permuted",
              "nonzero"}  # fmt: skip


def _operation(
    carry: Carry, func: Any, args: Any, kwargs: Any, out: Any, count: int
) -> kinds.Operation:
    """As a function of its first arguments."""

    def f(*values: np.ndarray) -> np.ndarray:
        tensors = [tensor_of(np.asarray(v)) for v in values]
        return values_of(func(*tensors, *args[len(values) :], **kwargs))

    name = func._schema.name.partition("::")[2]
    return kinds.Operation(carry, name, [carry.at(x) for x in args[:count]], f, values_of(out))


def _of_kind(kind: kinds.Kind, count: int) -> Rule:
    return lambda carry, func, args, kwargs, out: kind(
        _operation(carry, func, args, kwargs, out, count)
    )


for (_kind, _count), _names in _KINDS.items():
    RULES.update(dict.fromkeys(_names.split(), _of_kind(kinds.KINDS[_kind], _count)))


@rule(*_FACTORIES)
def _factory(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.exactly(values_of(out))


@rule("add", "sub", "rsub")
def _add(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    a, b = carry.at(args[0]), carry.at(args[1])
    alpha = kwargs.get("alpha", args[2] if len(args) > 2 else 1)
    if alpha != 1:
        scaled = a if "rsub" in str(func) else b
        scaled = carry.rules.multiplied(
            scaled, carry.rules.exactly(np.asarray(alpha)), scaled.value * alpha
        )
        a, b = (scaled, b) if "rsub" in str(func) else (a, scaled)
    return kinds.KINDS["added"](kinds.Operation(carry, "add", (a, b), np.add, values_of(out)))


@rule("div")
def _div(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    a, b = carry.at(args[0]), carry.at(args[1])
    if kwargs.get("rounding_mode") is None:
        return carry.rules.divided(a, b, values_of(out))
    quotient = carry.rules.divided(a, b, a.value / b.value)
    step = np.floor if kwargs["rounding_mode"] == "floor" else np.trunc
    return kinds.stepped(kinds.Operation(carry, "div", [quotient], step, values_of(out)))


@rule("softplus")
def _softplus(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    """From its threshold on torch leaves out what is below e^-threshold; others need not."""
    x, beta = args[0], args[1] if len(args) > 1 else 1
    threshold = args[2] if len(args) > 2 else 20

    def f(v: np.ndarray) -> np.ndarray:
        return np.asarray(np.logaddexp(0, v * beta) / beta)

    smooth = carry.rules.monotone(f, carry.at(x))
    left = np.exp(-np.abs(smooth.value) * beta) / beta
    return smooth.error + np.where(smooth.value * beta > threshold, left, 0.0)


@rule("softplus_backward")
def _softplus_backward(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    grad, x, beta, threshold = args
    slope = carry.rules.monotone(lambda v: 1 / (1 + np.exp(-v * beta)), carry.at(x))
    left = np.where(carry.at(x).value * beta > threshold, 1 - slope.value, 0.0)
    slope = Approximate(slope.value, slope.error + 2 * left)
    return carry.rules.multiplied(carry.at(grad), slope, values_of(out))


@rule("reciprocal")
def _reciprocal(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.divided(
        carry.rules.exactly(np.asarray(1.0)), carry.at(args[0]), values_of(out)
    )


@rule("polar")
def _polar(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.turned(carry.at(args[0]), carry.at(args[1]), values_of(out))


@rule("complex")
def _complex(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.closed(values_of(out), carry.at(args[0]).error + carry.at(args[1]).error)


@rule("relu", "clamp", "clamp_min", "clamp_max", "hardtanh", "threshold")
def _clipped(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    operation = _operation(carry, func, args, kwargs, out, 1)
    bounds = [carry.at(a) for a in (*args[1:], *kwargs.values()) if isinstance(a, torch.Tensor)]
    return kinds.clipped(replace(operation, xs=[*operation.xs, *bounds]))


@rule("any", "all")
def _any(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return np.full(tuple(out.shape), float(carry.at(args[0]).error.any()))


@rule("where")
def _where(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    which, a, b = (carry.at(x) for x in args)
    return carry.rules.chosen(which, (b, a), values_of(out))


def _errors_instead(carry: Carry, args: Any, kwargs: Any) -> tuple[Any, Any, bool]:
    """The call with errors in the place of floating values; whether an index is unsure."""
    unsure = False

    def swapped(x: Any) -> Any:
        nonlocal unsure
        if not isinstance(x, torch.Tensor):
            return x
        if x.is_floating_point() or x.is_complex():
            return carry.error(x).clone()
        unsure = unsure or bool(carry.error(x).any())
        return x

    args, kwargs = tree_map(swapped, (list(args), dict(kwargs)))
    return args, kwargs, unsure


@rule(*_MOVES)
def _moved(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    is_integer = not (out.is_floating_point() or out.is_complex())
    if is_integer and not any(
        isinstance(x, torch.Tensor) and carry.error(x).any() for x in tree_flatten(args)[0]
    ):
        return carry.rules.exactly(values_of(out))
    name = func._schema.name.partition("::")[2]
    if name in ("_to_copy", "clone", "convert_element_type", "neg"):
        if args[0].is_floating_point() and is_integer:
            return kinds.stepped(_operation(carry, func, args, kwargs, out, 1))
        error = carry.error(args[0]).numpy().copy()
        return carry.rules.stored(Approximate(values_of(args[0]), error)).error
    if is_integer:
        return carry.rules.unknown(values_of(out))
    values = list(args), dict(kwargs)
    args, kwargs, unsure = _errors_instead(carry, args, kwargs)
    if name == "constant_pad_nd":
        args = args[:2]
        kwargs = {}
    if name == "scatter" and len(args) > 3 and not isinstance(args[3], torch.Tensor):
        args[3] = 0.0
    error = values_of(func(*args, **kwargs))
    return error + _between(carry, func, *values, values_of(out)) if unsure else error


def _between(carry: Carry, func: Any, args: Any, kwargs: Any, value: np.ndarray) -> Any:
    """How far off a result is where an index is off by one; by more nothing is known."""

    def at(sign: int) -> np.ndarray:
        def moved(x: Any) -> Any:
            if not isinstance(x, torch.Tensor) or x.dtype not in (torch.int64, torch.int32):
                return x
            error = carry.error(x)
            if error.max() > 1:
                raise IndexError
            return (x + (sign * error).to(x.dtype)).clamp(min=0)

        return values_of(func(*tree_map(moved, args), **tree_map(moved, kwargs)))

    try:
        return np.maximum(np.abs(at(1) - value), np.abs(at(-1) - value))
    except (IndexError, RuntimeError):
        return np.inf


@rule(*_SUMS)
def _sums(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    source = max((x for x in args if isinstance(x, torch.Tensor)), key=lambda t: t.numel())
    if out.is_complex():
        return carry.rules.unknown(values_of(out))
    if not out.is_floating_point():
        return carry.rules.exactly(values_of(out))
    terms = source.numel()
    if func._schema.name == "aten::sum" or func._schema.name == "aten::mean":
        terms = source.numel() // max(out.numel(), 1)
    if func._schema.name == "aten::cumsum":
        terms = source.shape[args[1]] if source.ndim else 1
    args2, kwargs2, unsure = _errors_instead(carry, args, kwargs)
    if unsure:
        return carry.rules.unknown(values_of(out))
    carried = values_of(func(*args2, **kwargs2))
    sizes = tree_map(
        lambda t: t.abs() + carry.error(t)
        if isinstance(t, torch.Tensor) and t.is_floating_point() else t, (list(args), kwargs)
    )  # fmt: skip
    size = values_of(func(*sizes[0], **sizes[1]))
    # Coefficients of an interpolation may be off by the size of a coordinate.
    wide = 16 + max(source.shape, default=1) if "upsample" in func._schema.name else 4
    return carry.rules.closed(values_of(out), carried + (terms + wide) * carry.rules.unit * size)
