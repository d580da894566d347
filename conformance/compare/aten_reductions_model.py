"""The rules of torch's products, convolutions, extremes, pools and sorts."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from conformance.arithmetic.running import Approximate
from conformance.compare import kinds
from conformance.compare.aten_model import RULES, Carry, rule, tensor_of, values_of


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


@rule("_fft_r2c", "_fft_c2c", "_fft_c2r")
def _fourier(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    return carry.rules.transformed(carry.at(args[0]), tuple(args[1]), values_of(out))


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


@rule("max", "min", "argmax", "argmin")
def _largest(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    x, *rest = args
    name = func._schema.name.partition("::")[2]
    if rest and isinstance(rest[0], torch.Tensor):
        return RULES[f"{name}imum"](carry, func, args, kwargs, out)
    dim, at = rest[0] if rest else kwargs.get("dim"), carry.at(x)
    if dim is None:
        at, dim = Approximate(at.value.reshape(-1), at.error.reshape(-1)), 0
    extreme = np.max if name.endswith("max") else np.min
    outs = out if isinstance(out, tuple) else (out,)
    unsure = np.zeros(())
    if len(outs) > 1 or name.startswith("arg"):
        unsure = kinds.place_of_largest(carry, name, at, dim)[1]
    error = carry.rules.largest(lambda v: extreme(v, axis=dim), at).error
    return [(error if t.is_floating_point() else unsure).reshape(tuple(t.shape)) for t in outs]


@rule("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(carry: Carry, func: Any, args: Any, kwargs: Any, out: Any) -> Any:
    x, *rest = args
    value, at = values_of(out[0]), carry.at(x)
    errors = carry.rules.largest(lambda v: values_of(func(tensor_of(v), *rest)[0]), at, value=value)
    if not at.error.any():
        return errors.error, np.zeros(value.shape)
    n = 2 if "2d" in func._schema.name else 3
    kernel, padding = _sides(rest, 0, n, 1), _sides(rest, 2, n, 0)
    stride, dilation = _sides(rest, 1, n, kernel), _sides(rest, 3, n, 1)
    rows = zip(value.shape[-n:], stride, dilation, kernel, padding, x.shape[-n:], strict=True)
    ends = [(outs - 1) * s + d * (k - 1) + 1 - p - size for outs, s, d, k, p, size in rows]
    pads = [(p, max(end, 0)) for p, end in zip(padding, ends, strict=True)]
    seen = kinds.windows(at, kernel, stride, pads, dilation)
    return errors.error, kinds.place_of_largest(carry, "max_pool", seen, -1)[1]


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
    is_sort = func._schema.name == "aten::sort"
    given = args[1:] if is_sort else args[2:]
    dim = kwargs.get("dim", given[0] if given else -1)
    x = carry.at(args[0])
    if kinds.is_order_unsure(carry, x, dim, None if is_sort else values.shape[dim]):
        return np.full(tuple(values.shape), x.error.max()), np.ones(tuple(index.shape))
    error = np.take_along_axis(x.error, index.numpy(), dim)
    return error, np.zeros(tuple(index.shape))
