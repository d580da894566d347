"""The rules of torch's operations: of each what it does to errors, by the rules of `rules.py`."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch.utils._pytree import tree_flatten, tree_map

from conformance.arithmetic.running import Approximate
from conformance.compare.aten_model import Carry, rule

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


def _numpy(out: Any) -> np.ndarray:
    plain = out.detach()
    return np.asarray((plain.double() if plain.is_floating_point() else plain).numpy())


def _as(v: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    return _numpy(torch.from_numpy(np.array(v, order="C")).to(dtype)).astype(np.float64)


def _tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(x, order="C"))


@rule(*_FACTORIES)
def _factory(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.exactly(_numpy(out))


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
    return carry.rules.added(a, b, _numpy(out))


@rule("mul")
def _mul(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.multiplied(carry.at(args[0]), carry.at(args[1]), _numpy(out))


@rule("div")
def _div(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    a, b = carry.at(args[0]), carry.at(args[1])
    if kwargs.get("rounding_mode") is None:
        return carry.rules.divided(a, b, _numpy(out))
    quotient = carry.rules.divided(a, b, a.value / b.value)
    step = np.floor if kwargs["rounding_mode"] == "floor" else np.trunc
    return _stepped(carry, quotient, step, _numpy(out))


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
    return carry.rules.multiplied(carry.at(grad), slope, _numpy(out))


@rule("reciprocal")
def _reciprocal(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.divided(carry.rules.exactly(np.asarray(1.0)), carry.at(args[0]), _numpy(out))


@rule("pow")
def _pow(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    base, exponent = args[:2]
    if not isinstance(exponent, torch.Tensor):
        return carry.rules.power(carry.at(base), float(exponent), _numpy(out))
    a, b = carry.at(base), carry.at(exponent)
    value = _numpy(out)
    with np.errstate(all="ignore"):  # e^(b·log a), for positive a
        log = carry.rules.monotone(np.log, a)
        inner = carry.rules.multiplied(log, b, log.value * b.value)
        return carry.rules.monotone(np.exp, inner, value)


@rule(*_MONOTONE)
def _monotone(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    def f(v: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(np.asarray(v, dtype=np.float64))))

    return carry.rules.monotone(f, carry.at(args[0]), _numpy(out))


@rule("sin", "cos")
def _wave(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.wave(carry.at(args[0]), _numpy(out))


@rule("abs")
def _abs(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.lipschitz(carry.at(args[0]), _numpy(out))


@rule(*_CLIPPED)
def _clipped(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    bounds = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, torch.Tensor)]
    if bounds:
        errors = sum(carry.error(t).numpy() for t in (args[0], *bounds))
        return carry.rules.closed(_numpy(out), np.broadcast_to(errors, tuple(out.shape)))

    def f(v: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(v), *args[1:], **kwargs))

    x = carry.at(args[0])
    carry.idle += x.value.dtype.kind == "f" and x.value.size > 0 and carry.rules.is_idle(f, x.value)
    return carry.rules.clipped(f, x, _numpy(out))


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
        return _numpy(func(_tensor(v)))

    return _stepped(carry, carry.at(args[0]), f, _numpy(out))


@rule("maximum", "minimum")
def _extreme(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    a, b = carry.at(args[0]), carry.at(args[1])
    f = np.maximum if "max" in func._schema.name else np.minimum
    return carry.rules.largest(f, a, b, value=_numpy(out))


@rule(*_COMPARED)
def _compared(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    name = func._schema.name.partition("::")[2]
    compared = carry.rules.compared(name, carry.at(args[0]), carry.at(args[1]), _numpy(out))
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
    return carry.rules.chosen(which, (b, a), _numpy(out))


@rule("mm", "bmm", "mv", "dot", "vdot")
def _product(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(a), _tensor(b)))

    a, b = carry.at(args[0]), carry.at(args[1])
    return carry.rules.bilinear(f, a, b, a.value.shape[-1], _numpy(out))


def _with_bias(
    carry: Carry, product: Approximate, bias: Approximate, terms: int, out: Any
) -> Approximate:
    """The accumulator may start at the bias, which then is rounded with every term."""
    total = carry.rules.added(product, bias, _numpy(out))
    more = (terms + 4) * carry.rules.unit * (np.abs(bias.value) + bias.error)
    return carry.rules.closed(total.value, total.error + more)


@rule("addmm", "baddbmm", "addmv")
def _addmm(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    bias, a, b = (carry.at(x) for x in args[:3])
    alpha, beta = kwargs.get("alpha", 1), kwargs.get("beta", 1)

    def f(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray(np.matmul(x, y) * abs(alpha))

    product = carry.rules.bilinear(f, a, b, a.value.shape[-1])
    bias = Approximate(bias.value * beta, bias.error * abs(beta))
    return _with_bias(carry, product, bias, a.value.shape[-1], out)


@rule("convolution")
def _convolution(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    x, weight, bias, *rest = args

    def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(a), _tensor(b), None, *rest))

    terms = prod(weight.shape[2:]) * max(weight.shape[:2])
    if bias is None:
        return carry.rules.bilinear(f, carry.at(x), carry.at(weight), terms, _numpy(out))
    product = carry.rules.bilinear(f, carry.at(x), carry.at(weight), terms)
    spread = carry.at(bias.reshape(1, -1, *(1 for _ in weight.shape[2:])))
    spread = Approximate(spread.value, carry.error(bias).numpy().reshape(spread.value.shape))
    return _with_bias(carry, product, spread, terms, out)


@rule("convolution_backward")
def _convolution_backward(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    grad, x, weight, sizes, *rest, mask = args
    terms = prod(weight.shape[2:]) * max(weight.shape[:2])
    all_terms = grad.numel() // grad.shape[1]

    def pulled(which: int, place: int) -> Any:
        def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            given = [_tensor(a), x, weight]
            given[place] = _tensor(b)
            only = [i == which for i in range(3)]
            return _numpy(func(*given, sizes, *rest, only)[which])

        return f

    dy, results = carry.at(grad), []
    if mask[0]:
        at = carry.at(weight)
        results.append(carry.rules.bilinear(pulled(0, 2), dy, at, terms, _numpy(out[0])))
    if mask[1]:
        at = carry.at(x)
        results.append(carry.rules.bilinear(pulled(1, 1), dy, at, all_terms, _numpy(out[1])))
    if mask[2]:
        axes = (0, *range(2, grad.ndim))
        results.append(carry.rules.summed(lambda v: v.sum(axes), dy, all_terms, _numpy(out[2])))
    return results


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
        return carry.rules.exactly(_numpy(out))
    name = func._schema.name.partition("::")[2]
    if name in ("_to_copy", "clone", "convert_element_type", "neg"):
        if args[0].is_floating_point() and not out.is_floating_point():
            return _stepped(carry, carry.at(args[0]), lambda v: _as(v, out.dtype), _numpy(out))
        return carry.error(args[0]).numpy().copy()
    if not out.is_floating_point():
        return carry.rules.unknown(_numpy(out))
    args, kwargs, unsure = _errors_instead(carry, args, kwargs)
    if name == "constant_pad_nd":
        args = args[:2]
        kwargs = {}
    if name == "scatter" and len(args) > 3 and not isinstance(args[3], torch.Tensor):
        args[3] = 0.0
    return carry.rules.unknown(_numpy(out)) if unsure else _numpy(func(*args, **kwargs))


@rule(*_SUMS)
def _sums(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    source = max((x for x in args if isinstance(x, torch.Tensor)), key=lambda t: t.numel())
    if not out.is_floating_point():
        return carry.rules.exactly(_numpy(out))
    terms = source.numel()
    if func._schema.name == "aten::sum" or func._schema.name == "aten::mean":
        terms = source.numel() // max(out.numel(), 1)
    if func._schema.name == "aten::cumsum":
        terms = source.shape[args[1]] if source.ndim else 1
    args2, kwargs2, unsure = _errors_instead(carry, args, kwargs)
    if unsure:
        return carry.rules.unknown(_numpy(out))
    carried = _numpy(func(*args2, **kwargs2))
    sizes = tree_map(
        lambda t: t.abs() + carry.error(t)
        if isinstance(t, torch.Tensor) and t.is_floating_point() else t, (list(args), kwargs)
    )  # fmt: skip
    size = _numpy(func(*sizes[0], **sizes[1]))
    # Coefficients of an interpolation may be off by the size of a coordinate.
    wide = 16 + max(source.shape, default=1) if "upsample" in func._schema.name else 4
    return carry.rules.closed(_numpy(out), carried + (terms + wide) * carry.rules.unit * size)


@rule("amax", "amin")
def _amax(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    def f(v: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(v), *args[1:], **kwargs))

    return carry.rules.largest(f, carry.at(args[0]), value=_numpy(out))


@rule("max", "min", "argmax", "argmin")
def _largest(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    x, *rest = args
    name = func._schema.name.partition("::")[2]
    if rest and isinstance(rest[0], torch.Tensor):
        return _extreme(carry, func, args, kwargs, out[0] if isinstance(out, tuple) else out)
    v, e = carry.at(x).value, carry.error(x).numpy()
    extreme = np.max if name.endswith("max") else np.min
    at = Approximate(v, e)
    if name.endswith("min"):
        v = -v
    dim = rest[0] if rest else kwargs.get("dim")
    axis = None if dim is None else int(dim)
    if axis is None:
        v, e, axis = v.reshape(-1), e.reshape(-1), 0
        at = Approximate(at.value.reshape(-1), e)
    best = v.argmax(axis)
    low = np.take_along_axis(v - e, np.expand_dims(best, axis), axis)
    rivals = ((v + e >= low) & ((e > 0) | (low != v))).sum(axis)
    unsure = (rivals > 1).astype(float)
    if unsure.any() and (name.startswith("arg") or isinstance(out, tuple)):
        carry.unsure[f"the order at a maximum ({name})"] += int(unsure.sum())
    values = carry.rules.largest(lambda v: extreme(v, axis=axis), at).error
    outs = out if isinstance(out, tuple) else (out,)
    return [(values if t.is_floating_point() else unsure).reshape(tuple(t.shape)) for t in outs]


@rule("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    x, *rest = args
    value, index = _numpy(out[0]), out[1].numpy()
    at = carry.at(x)
    errors = carry.rules.largest(lambda v: _numpy(func(_tensor(v), *rest)[0]), at, value=value)
    unsure = np.zeros(value.shape)
    if at.error.any():
        # A second pool over what is left of each window: its winner out, everything else at most.
        n = 2 if "2d" in func._schema.name else 3
        kernel, padding = _sides(rest, 0, n, 1), _sides(rest, 2, n, 0)
        stride, dilation = _sides(rest, 1, n, kernel), _sides(rest, 3, n, 1)
        top, low = at.value + at.error, at.value - at.error
        ends = [
            (o - 1) * s + d * (k - 1) + 1 - p - size
            for o, s, d, k, p, size in zip(
                value.shape[-n:], stride, dilation, kernel, padding,
                x.shape[-n:], strict=True,
            )
        ]  # fmt: skip
        pads = [(0, 0)] * (x.ndim - n) + [
            (p, max(e, 0)) for p, e in zip(padding, ends, strict=True)
        ]
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        axes = tuple(range(x.ndim - n, x.ndim))
        steps = [slice(None, o * s, s) for o, s in zip(value.shape[-n:], stride, strict=True)]
        inner: list[Any] = [slice(None, None, d) for d in (dilation)]
        seen = sliding_window_view(np.pad(top, pads, constant_values=-np.inf), spans, axis=axes)
        whole: list[Any] = [slice(None)] * n
        seen = seen[tuple([..., *steps, *whole])][tuple([..., *inner])]  # noqa: C409
        lead = at.value.shape[:-n]
        least = np.take_along_axis(low.reshape(*lead, -1), index.reshape(*lead, -1), -1)
        least = least.reshape(value.shape)[(..., *(None,) * n)]
        rivals = (seen >= least).sum(tuple(range(-n, 0)))
        sure = np.take_along_axis(at.error.reshape(*lead, -1), index.reshape(*lead, -1), -1)
        ties = (seen == least).sum(tuple(range(-n, 0)))
        sure = sure.reshape(value.shape) == 0
        unsure = ((rivals > 1) & ~(sure & (rivals == ties))).astype(float)
        if unsure.any():
            carry.unsure["the order at a max pool"] += int(unsure.sum())
    return errors.error, unsure


def _sides(rest: Sequence[Any], i: int, n: int, default: Any) -> tuple[int, ...]:
    given = rest[i] if i < len(rest) and rest[i] not in (None, []) else default
    sizes = [given] if isinstance(given, int) else list(given)
    return tuple(sizes * n if len(sizes) == 1 else sizes)


@rule("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def _max_pool_backward(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    grad, x, *rest, index = args
    if carry.error(index).any():
        return carry.rules.unknown(_numpy(out))

    def f(v: np.ndarray) -> np.ndarray:
        return _numpy(func(_tensor(v), x, *rest, index))

    return carry.rules.summed(f, carry.at(grad), prod(rest[0]) if rest[0] else 1, _numpy(out))


@rule("sort", "topk")
def _sort(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    values, index = out
    x = args[0]
    named = {"sort": 1, "topk": 2}[func._schema.name.partition("::")[2]]
    dim = kwargs.get("dim", args[named] if len(args) > named else -1)
    if "stable" in kwargs and len(args) == 1:
        dim = kwargs.get("dim", -1)
    error = carry.error(x)
    if not error.any():
        return carry.rules.exactly(_numpy(values)), carry.rules.exactly(_numpy(index))
    most = error.max()
    ordered = torch.sort(x.detach(), dim=dim)[0]
    close = bool((ordered.diff(dim=dim) <= 2 * most).any())
    if close:
        carry.unsure["the order of a sort"] += 1
        return torch.full(values.shape, float(most)).numpy(), np.ones(tuple(index.shape))
    return torch.gather(error, dim, index).numpy(), np.zeros(tuple(index.shape))
