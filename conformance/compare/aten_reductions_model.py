"""The rules of torch's products, convolutions, extremes, pools and sorts."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from conformance.arithmetic.running import Approximate
from conformance.compare.aten_model import Carry, rule, tensor_of, values_of


@rule("mm", "bmm", "mv", "dot", "vdot")
def _product(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return values_of(func(tensor_of(a), tensor_of(b)))

    a, b = carry.at(args[0]), carry.at(args[1])
    return carry.rules.bilinear(f, a, b, a.value.shape[-1], values_of(out))


def _with_bias(
    carry: Carry, product: Approximate, bias: Approximate, terms: int, out: Any
) -> Approximate:
    """The accumulator may start at the bias, which then is rounded with every term."""
    total = carry.rules.added(product, bias, values_of(out))
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


@rule("scatter_reduce")
def _scatter_reduce(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    """A largest or a smallest; of a product or a mean nothing is known."""
    target, axis, index, source, how = args[:5]
    if how not in ("amax", "amin") or carry.error(index).any():
        return carry.rules.unknown(values_of(out))

    def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return values_of(func(tensor_of(a), axis, index, tensor_of(b), how, **kwargs))

    return carry.rules.largest(f, carry.at(target), carry.at(source), value=values_of(out))


@rule("convolution")
def _convolution(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    x, weight, bias, *rest = args

    def f(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return values_of(func(tensor_of(a), tensor_of(b), None, *rest))

    terms = prod(weight.shape[2:]) * max(weight.shape[:2])
    if bias is None:
        return carry.rules.bilinear(f, carry.at(x), carry.at(weight), terms, values_of(out))
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
            given = [tensor_of(a), x, weight]
            given[place] = tensor_of(b)
            only = [i == which for i in range(3)]
            return values_of(func(*given, sizes, *rest, only)[which])

        return f

    dy, results = carry.at(grad), []
    if mask[0]:
        at = carry.at(weight)
        results.append(carry.rules.bilinear(pulled(0, 2), dy, at, terms, values_of(out[0])))
    if mask[1]:
        at = carry.at(x)
        results.append(carry.rules.bilinear(pulled(1, 1), dy, at, all_terms, values_of(out[1])))
    if mask[2]:
        axes = (0, *range(2, grad.ndim))
        results.append(carry.rules.summed(lambda v: v.sum(axes), dy, all_terms, values_of(out[2])))
    return results


@rule("maximum", "minimum")
def _extreme(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    a, b = carry.at(args[0]), carry.at(args[1])
    f = np.maximum if "max" in func._schema.name else np.minimum
    return carry.rules.largest(f, a, b, value=values_of(out))


@rule("amax", "amin")
def _amax(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    def f(v: np.ndarray) -> np.ndarray:
        return values_of(func(tensor_of(v), *args[1:], **kwargs))

    return carry.rules.largest(f, carry.at(args[0]), value=values_of(out))


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
    value, index = values_of(out[0]), out[1].numpy()
    at = carry.at(x)
    errors = carry.rules.largest(lambda v: values_of(func(tensor_of(v), *rest)[0]), at, value=value)
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
        return carry.rules.unknown(values_of(out))

    def f(v: np.ndarray) -> np.ndarray:
        return values_of(func(tensor_of(v), x, *rest, index))

    return carry.rules.summed(f, carry.at(grad), prod(rest[0]) if rest[0] else 1, values_of(out))


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
        return carry.rules.exactly(values_of(values)), carry.rules.exactly(values_of(index))
    most = error.max()
    ordered = torch.sort(x.detach(), dim=dim)[0]
    close = bool((ordered.diff(dim=dim) <= 2 * most).any())
    if close:
        carry.unsure["the order of a sort"] += 1
        return torch.full(values.shape, float(most)).numpy(), np.ones(tuple(index.shape))
    return torch.gather(error, dim, index).numpy(), np.zeros(tuple(index.shape))
