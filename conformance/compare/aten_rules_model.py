"""The rules of torch's operations: of each what it does to errors, by the rules of `rules.py`."""

from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map

from conformance.arithmetic.running import Approximate
from conformance.compare.aten_model import Carry, rule, tensor_of, values_of

_MONOTONE = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "erfc",
    "erfinv", "special_ndtri", "special_log_ndtr", "sqrt", "atan",
    "asin", "acos", "asinh", "acosh", "atanh", "sinh", "rsqrt", }  # fmt: skip
_CLIPPED = {"relu", "clamp", "clamp_min", "clamp_max", "hardtanh", "threshold"}
_STEPS = {"floor", "ceil", "round", "trunc", "sign", "sgn"}
_COMPARED = {"gt", "lt", "ge", "le", "eq", "ne"}
_LOGICAL = {"bitwise_and", "bitwise_or", "bitwise_not", "bitwise_xor", "logical_and", "logical_or",
            "logical_not", "logical_xor"}  # fmt: skip
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


def _as(v: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    return values_of(torch.from_numpy(np.array(v, order="C")).to(dtype)).astype(np.float64)


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
    return carry.rules.added(a, b, values_of(out))


@rule("mul")
def _mul(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.multiplied(carry.at(args[0]), carry.at(args[1]), values_of(out))


@rule("div")
def _div(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    a, b = carry.at(args[0]), carry.at(args[1])
    if kwargs.get("rounding_mode") is None:
        return carry.rules.divided(a, b, values_of(out))
    quotient = carry.rules.divided(a, b, a.value / b.value)
    step = np.floor if kwargs["rounding_mode"] == "floor" else np.trunc
    return _stepped(carry, quotient, step, values_of(out))


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


@rule("pow")
def _pow(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    base, exponent = args[:2]
    if not isinstance(exponent, torch.Tensor):
        return carry.rules.power(carry.at(base), float(exponent), values_of(out))
    a, b = carry.at(base), carry.at(exponent)
    value = values_of(out)
    with np.errstate(all="ignore"):  # e^(b·log a), for positive a
        log = carry.rules.monotone(np.log, a)
        inner = carry.rules.multiplied(log, b, log.value * b.value)
        return carry.rules.monotone(np.exp, inner, value)


@rule(*_MONOTONE)
def _monotone(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    if out.is_complex():
        if func._schema.name != "aten::exp":
            return carry.rules.unknown(values_of(out))
        x = carry.at(args[0])
        size = carry.rules.monotone(np.exp, Approximate(x.value.real, x.error))
        return carry.rules.turned(size, Approximate(x.value.imag, x.error), values_of(out))

    def f(v: np.ndarray) -> np.ndarray:
        return values_of(func(tensor_of(np.asarray(v, dtype=np.float64))))

    return carry.rules.monotone(f, carry.at(args[0]), values_of(out))


@rule("sin", "cos")
def _wave(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.wave(carry.at(args[0]), values_of(out))


@rule("polar")
def _polar(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.turned(carry.at(args[0]), carry.at(args[1]), values_of(out))


@rule("complex")
def _complex(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.closed(values_of(out), carry.at(args[0]).error + carry.at(args[1]).error)


@rule("abs")
def _abs(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.size(carry.at(args[0]), values_of(out))


@rule(*_CLIPPED)
def _clipped(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    bounds = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, torch.Tensor)]
    if bounds:
        errors = sum(carry.error(t).numpy() for t in (args[0], *bounds))
        return carry.rules.closed(values_of(out), np.broadcast_to(errors, tuple(out.shape)))

    def f(v: np.ndarray) -> np.ndarray:
        return values_of(func(tensor_of(v), *args[1:], **kwargs))

    x = carry.at(args[0])
    carry.idle += x.value.dtype.kind == "f" and x.value.size > 0 and carry.rules.is_idle(f, x.value)
    return carry.rules.clipped(f, x, values_of(out))


def _stepped(carry: Carry, x: Approximate, f: Any, value: np.ndarray) -> Approximate:
    if not x.error.any():
        return carry.rules.exactly(value)
    with np.errstate(all="ignore"):
        off = np.maximum(np.abs(f(x.value + x.error) - value), np.abs(f(x.value - x.error) - value))
    if off.any():
        carry.unsure["a rounding to integers"] += int((off > 0).sum())
    return carry.rules.closed(value, off)


@rule(*_STEPS)
def _step(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    def f(v: np.ndarray) -> np.ndarray:
        return values_of(func(tensor_of(v)))

    return _stepped(carry, carry.at(args[0]), f, values_of(out))


@rule(*_COMPARED)
def _compared(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    name = func._schema.name.partition("::")[2]
    compared = carry.rules.compared(name, carry.at(args[0]), carry.at(args[1]), values_of(out))
    if compared.error.any():
        carry.unsure[f"a comparison ({name})"] += int(compared.error.sum())
    return compared


@rule(*_LOGICAL)
def _logical(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    errors = [carry.at(a).error for a in args if isinstance(a, torch.Tensor)]
    return errors[0] if len(errors) == 1 else np.maximum(*errors)


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
        if x.is_floating_point():
            return carry.error(x).clone()
        unsure = unsure or bool(carry.error(x).any())
        return x

    args, kwargs = tree_map(swapped, (list(args), dict(kwargs)))
    return args, kwargs, unsure


@rule(*_MOVES)
def _moved(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    if not out.is_floating_point() and not any(
        isinstance(x, torch.Tensor) and carry.error(x).any() for x in tree_flatten(args)[0]
    ):
        return carry.rules.exactly(values_of(out))
    name = func._schema.name.partition("::")[2]
    if name in ("_to_copy", "clone", "convert_element_type", "neg"):
        if args[0].is_floating_point() and not out.is_floating_point():
            return _stepped(carry, carry.at(args[0]), lambda v: _as(v, out.dtype), values_of(out))
        error = carry.error(args[0]).numpy().copy()
        return carry.rules.stored(Approximate(values_of(args[0]), error)).error
    if not out.is_floating_point():
        return carry.rules.unknown(values_of(out))
    args, kwargs, unsure = _errors_instead(carry, args, kwargs)
    if name == "constant_pad_nd":
        args = args[:2]
        kwargs = {}
    if name == "scatter" and len(args) > 3 and not isinstance(args[3], torch.Tensor):
        args[3] = 0.0
    return carry.rules.unknown(values_of(out)) if unsure else values_of(func(*args, **kwargs))


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
