"""Changes that ports make to code between layers: splits, joins, sums, products, reductions."""

from collections.abc import Iterator
from functools import partial
from itertools import permutations
from math import pi
from typing import Any

import torch
from torch import nn

from conformance.compare.changes import Option, option, other_epsilons
from conformance.compare.torch_called_model import SUMS, Called, changes, every

_PRODUCTS = ("matmul", "__matmul__", "bmm", "baddbmm", "einsum")


def _orders(parts: int) -> list[tuple[int, ...]]:
    """The orders of a few parts, but for their own."""
    return list(permutations(range(parts)))[1:] if parts <= 4 else []


@changes("cat", "concat", "concatenate")
def joins(call: Called) -> Iterator[Option]:
    """Parts that are joined in another order."""
    for order in _orders(len(call.x)):
        words = f"its parts are joined in the order {list(order)}"
        if len(order) == 2:
            words = "its parts are joined the other way round"
        yield option("concatenation-order", words, call.on([call.x[i] for i in order]))
    for words, places in _long_orders(len(call.x)):
        yield option("concatenation-order", words, call.on([call.x[i] for i in places]))
    axis = call.get("dim", 0)
    if len(call.x) > 1 and len({x.shape[axis] for x in call.x}) == 1 < call.x[0].shape[axis]:
        words = "its parts are joined in turn, entry by entry, not one after the other"
        yield option("concatenation-order", words, partial(_in_turn, call.x, axis))


def _in_turn(parts: Any, axis: int) -> Any:
    axis = axis % parts[0].ndim
    return torch.stack(list(parts), axis + 1).flatten(axis, axis + 1)


def _long_orders(parts: int) -> Iterator[tuple[str, list[int]]]:
    """Of many parts, perhaps after a first one that stands alone, in pairs or by kinds."""
    if parts <= 4:
        return
    yield "its parts are joined in reverse", list(range(parts))[::-1]
    first, rest = list(range(parts % 2)), list(range(parts % 2, parts))
    half = len(rest) // 2
    yield "of each two parts the second comes first", first + [
        i for a, b in zip(rest[::2], rest[1::2], strict=True) for i in (b, a)]  # fmt: skip
    yield "every second part comes first, then the others", first + rest[::2] + rest[1::2]
    yield "its parts are joined by twos, of both halves", first + [
        i for a, b in zip(rest[:half], rest[half:], strict=True) for i in (a, b)]  # fmt: skip


@changes("chunk", "split", "tensor_split")
def splits(call: Called) -> Iterator[Option]:
    """Parts that are taken in another order, or of every second entry."""
    axis, parts = call.get("dim", 0), len(call())
    lengths = {part.shape[axis] for part in call()}
    if len(lengths) == 1 and lengths != {1}:
        words = f"each part has every {parts}th entry, not a block"
        yield option("split-interleaved", words, partial(every, call.x, parts, axis))
    is_gate = parts == 4 or (parts == 3 and call.x.ndim == 2)
    yield from _taken(call, "gate-order" if is_gate else "concatenation-order")


@changes("unbind")
def unbindings(call: Called) -> Iterator[Option]:
    """Rows that are taken in another order."""
    yield from _taken(call, "concatenation-order")


def _taken(call: Called, name: str) -> Iterator[Option]:
    for order in _orders(len(call())):

        def taken(order: tuple[int, ...] = order) -> tuple[Any, ...]:
            parts = call()
            return tuple(parts[i] for i in order)

        yield option(name, f"its {len(order)} parts are taken in the order {list(order)}", taken)


@changes("mul", "__mul__", "__rmul__", "mul_", "__imul__", "div", "__truediv__", "div_")
def products(call: Called) -> Iterator[Option]:
    """A factor that is left out: a number, a weight, or a gate."""
    if len(call.args) < 2:
        return
    first, second = call.args[:2]
    if "div" in call.name and isinstance(second, torch.Tensor) and second.ndim:
        yield option("factor-left-out", "it does not divide by the second", call.left_out())
        return
    for keep, factor in ((first, second), (second, first)):
        if not isinstance(keep, torch.Tensor):
            continue
        size = factor.numel() if isinstance(factor, torch.Tensor) else 1
        if size == 1 and keep.ndim:
            yield from _scales(call, keep, float(factor))
        elif size > 1 and torch.broadcast_shapes(keep.shape, factor.shape) == keep.shape:
            name = "layer-scale" if isinstance(factor, nn.Parameter) else "factor"
            yield option(f"{name}-left-out", "one of two factors is left out", call.left_out(keep))


def _scales(call: Called, x: Any, value: float) -> Iterator[Option]:
    factor = 1 / value if "div" in call.name and value else value
    name, words = "scale-left-out", f"the factor {factor:g} is left out"
    if call.previous.name == "embedding":
        name, words = "embedding-scale", f"it is not multiplied by {factor:g}"
    elif x.ndim >= 3 and (
        call.previous.name in _PRODUCTS or abs(factor * factor * x.shape[-1] - 1) < 1e-6
    ):
        name, words = "attention-scale", "its scores are not scaled"
        yield option(name, "its scores are scaled twice", lambda: x * factor * factor)
        whole = factor * x.shape[1] ** -0.5
        yield option(name, "they are divided by the root of all heads' width", lambda: x * whole)
    yield option(name, words, call.left_out(x))
    of_pi = factor / pi * 64
    if abs(of_pi - round(of_pi)) < 1e-9 * abs(of_pi):
        made = partial(torch.mul, x, factor / pi)
        yield option("scale-left-out", "π is left out of its factor", made)
    if "div" in call.name and value == round(value) >= 2:
        for other in (value - 1, value + 1):
            words = "it divides by one {} than is right".format("less" if other < value else "more")
            yield option("count-off-by-one", words, partial(torch.div, x, other))


@changes(*_PRODUCTS)
def scores(call: Called) -> Iterator[Option]:
    """A product of queries and keys that is scaled, where the original's is not."""
    x = call.args[1] if isinstance(call.x, str) else call.x
    if isinstance(x, torch.Tensor) and x.ndim >= 3:
        factor = x.shape[-1] ** -0.5
        words = f"its scores are multiplied by {factor:.3g}"
        yield option("attention-scale", words, lambda: call() * factor)
    if not isinstance(call.x, str) and isinstance(x, torch.Tensor) and x.ndim >= 3:
        words = "its queries and keys are exchanged"
        yield option("other-input", words, lambda: call().transpose(-1, -2))


@changes("sub", "__sub__")
def differences(call: Called) -> Iterator[Option]:
    """A difference with the other sign."""
    if len(call.args) == 2 and all(isinstance(x, torch.Tensor) for x in call.args):
        words = "what is taken off and what it is taken from are exchanged"
        yield option("difference-sign", words, partial(torch.sub, *call.args[::-1]))
        words = "what is taken off is added"
        yield option("difference-sign", words, partial(torch.add, *call.args))


@changes("mul", "__mul__", "add", "__add__")
def other_operations(call: Called) -> Iterator[Option]:
    """A sum for a product of two tensors, or a product for a sum."""
    if len(call.args) == 2 and all(isinstance(x, torch.Tensor) and x.ndim for x in call.args):
        is_sum = "add" in call.name
        words = "it multiplies" if is_sum else "it adds"
        other = torch.mul if is_sum else torch.add
        words += f" where {'a sum' if is_sum else 'a product'} is right"
        yield option("sum-or-product", words, partial(other, *call.args))


@changes(*SUMS)
def additions(call: Called) -> Iterator[Option]:
    """An epsilon, a mask, or a term that is left out."""
    x, other = call.x, call.args[1] if len(call.args) > 1 else None
    if isinstance(other, float) and 0 < other < 0.01:
        for value, cause in other_epsilons(other):
            yield Option(cause, partial(torch.add, x, value))
        words = "its epsilon is added under the root, not to it"
        if call.previous.name in ("sqrt", "std", "norm"):
            yield option("epsilon-placement", words, lambda: torch.sqrt(x * x + other))
    elif isinstance(other, int | float) and abs(other) >= 0.01:
        yield option("term-left-out", f"{other:g} is not added", call.left_out())
    if not isinstance(other, torch.Tensor) or not isinstance(x, torch.Tensor):
        return
    if _is_mask(other):
        yield option("causal-mask", "nothing is masked", call.left_out())
        return
    yield option("difference-sign", "what is added is taken off", partial(torch.sub, x, other))
    whole = torch.broadcast_shapes(x.shape, other.shape)
    for kept, which in ((x, "second"), (other, "first")):
        if kept.shape == whole:
            words = f"the {which} of two terms is not added"
            yield option("term-left-out", words, call.left_out(kept))
    if other.ndim == 3 and isinstance(other, nn.Parameter) and other.shape[1] > 1:
        yield option("token-position", "its first token has no position", lambda: x + torch.cat(
            [torch.zeros_like(other[:, :1]), other[:, 1:]], 1))  # fmt: skip


def _is_mask(x: Any) -> bool:
    """Whether it is 0 where something may be seen, and else far below."""
    least = x.min() if x.is_floating_point() and x.numel() else 0
    return bool(least < -1e4) or bool(least <= -50 and ((x == 0) | (x == least)).all())


@changes("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def whole_pools(call: Called) -> Iterator[Option]:
    """A mean over all places."""
    if call.args[1:] and call.args[1] in (1, (1, 1), [1, 1]):
        places = tuple(range(2, call.x.ndim))
        yield option("pooling", "it takes the maximum", lambda: call.x.amax(places, keepdim=True))


@changes("normalize")
def normalised(call: Called) -> Iterator[Option]:
    """A length that is not divided by."""
    yield option("factor-left-out", "it does not divide by the length", call.left_out())


@changes("sqrt", "rsqrt")
def roots(call: Called) -> Iterator[Option]:
    """An epsilon that is added to a root, not under it."""
    x, eps = call.previous.terms or (None, None)
    if isinstance(eps, float) and 0 < eps < 0.01:
        words = "its epsilon is added to the root, not under it"
        power = 1 if call.name == "sqrt" else -1
        made = partial(_outside_root, x, eps, power)
        yield option("epsilon-placement", words, made)


def _outside_root(x: Any, eps: float, power: int) -> Any:
    return torch.pow(torch.sqrt(x) + eps, power)


@changes("normalize", "pairwise_distance", "cosine_similarity")
def epsilons(call: Called) -> Iterator[Option]:
    """The epsilon of a function that has one."""
    for value, cause in other_epsilons(call.get("eps", 1e-12 if call.name[0] == "n" else 1e-6)):
        yield Option(cause, call.again(eps=value))


@changes("var", "std", "var_mean", "std_mean")
def variances(call: Called) -> Iterator[Option]:
    """A variance over n, or over n − 1."""
    own = call.kwargs.get("correction", call.kwargs.get("unbiased", True))
    own = 1 if own is None else int(own)
    rest = {k: v for k, v in call.kwargs.items() if k not in ("correction", "unbiased")}
    if len(call.args) <= 2:
        over, right = ("n", "n − 1") if own else ("n − 1", "n")
        words = f"its variance is over {over} where {right} is right"
        yield option("variance-correction", words,
                     partial(call.func, *call.args, **rest, correction=1 - own))  # fmt: skip


@changes("topk")
def most_of(call: Called) -> Iterator[Option]:
    """Another number of the largest values."""
    own = call.get("k")
    for k in {1, own - 1, own + 1} - {0, own}:
        yield option("top-k", f"it takes {k} where {own} is right", call.again(k=k))


@changes("sum")
def sums(call: Called) -> Iterator[Option]:
    """A sum, of which a port takes the mean."""
    made = partial(torch.mean, *call.args, **call.kwargs)
    yield option("sum-or-mean", "it takes the mean where the sum is right", made)


@changes("max")
def largest(call: Called) -> Iterator[Option]:
    """A largest value over points, with its place."""
    axis = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim")
    if isinstance(axis, int):
        keep = call.kwargs.get("keepdim", False)
        mean = partial(torch.mean, call.x, axis, keepdim=keep)
        yield option("pooling", "it takes the mean", lambda: (mean(), None))


@changes("mean", "amax")
def pooled(call: Called) -> Iterator[Option]:
    """A mean, or a largest value, over places or tokens."""
    x, axes = call.x, call.args[1] if len(call.args) > 1 else call.kwargs.get("dim")
    if axes is None:
        return
    axes = axes if isinstance(axes, int) else tuple(axes)
    keep = {k: v for k, v in call.kwargs.items() if k == "keepdim"}
    other = torch.amax if call.name == "mean" else torch.mean
    words = "it takes the maximum" if call.name == "mean" else "it takes the mean"
    yield option("pooling", words, partial(other, x, axes, **keep))
    words = "it takes the sum where the mean is right"
    if call.name == "mean":
        yield option("sum-or-mean", words, partial(torch.sum, x, axes, **keep))
    if isinstance(axes, int) and not keep:
        for i, which in ((0, "first"), (-1, "last")):
            words = f"it takes the {which} token for the mean"
            yield option("pooling", words, partial(_token, x, axes, i))


def _token(x: Any, axis: int, place: int) -> Any:
    return x.select(axis, place) * 1.0


@changes("__getitem__")
def rows(call: Called) -> Iterator[Option]:
    """The other of two rows, or every second entry otherwise."""
    x, index = call.args
    if isinstance(index, int) and x.ndim and x.shape[0] == 2:
        words = "its two rows are taken the other way round"
        yield option("concatenation-order", words, lambda: x[1 - index % 2])
    steps = [i.step for i in index if isinstance(i, slice)] if isinstance(index, tuple) else []
    if 2 not in steps or x.ndim != len(index) or not x.is_floating_point():
        return
    later = tuple(slice(1, None, 2) if i == slice(None, None, 2) else i for i in index)
    yield option("pooling", "it takes the second of each two, not the first", lambda: x[later])
    axes = [axis for axis, i in enumerate(index) if i == slice(None, None, 2)]
    if all(x.shape[axis] % 2 == 0 for axis in axes):
        words = "it takes the mean of each two, not the first"
        yield option("pooling", words, partial(_halved, x, axes))


def _halved(x: Any, axes: list[int]) -> Any:
    for axis in axes:
        x = x.unflatten(axis, (-1, 2)).mean(axis + 1)
    return x


@changes("__rpow__", "pow")
def bases(call: Called) -> Iterator[Option]:
    """The base of a rotary embedding's wave lengths."""
    base, exponent = call.args[:2] if call.name == "pow" else call.args[1::-1]
    if isinstance(base, int | float) and isinstance(exponent, torch.Tensor) and base > 100:
        for other in (1e2, 1e3, 1e4, 1e5, 5e5, 1e6):
            if other != base:
                words = f"its base is {other:g} where {base:g} is right"
                yield option("rotary-base", words, lambda other=other: other**exponent)


@changes("arange")
def positions(call: Called) -> Iterator[Option]:
    """Positions that begin elsewhere."""
    for shift in (1, -1, 2):
        words = f"positions begin at {shift} more" if shift > 0 else "positions begin at 1 less"
        yield option("position-offset", words, lambda shift=shift: call() + shift)


@changes("__getitem__")
def tokens(call: Called) -> Iterator[Option]:
    """One of several tokens, or states of a sequence."""
    x, index = call.args
    is_place = isinstance(index, tuple) and [type(i) for i in index] == [slice, int]
    if x.ndim == 3 and is_place and index in ((slice(None), 0), (slice(None), -1)):
        which, other = ("last", -1) if index[1] == 0 else ("first", 0)
        yield option("pooling", f"it takes the {which} token", partial(_token, x, 1, other))
        yield option("pooling", "it takes the mean of all tokens", lambda: x.mean(1))
