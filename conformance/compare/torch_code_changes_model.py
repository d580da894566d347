"""Changes that ports make to code between layers: splits, joins, sums, reshapes, shuffles."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations
from math import prod
from typing import Any

import torch
from torch import nn

from conformance.compare.changes import Option, option, other_epsilons
from conformance.compare.torch_called_model import Called, changes

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


@changes("chunk", "split", "tensor_split")
def splits(call: Called) -> Iterator[Option]:
    """Parts that are taken in another order, or of every second entry."""
    axis, parts = call.get("dim", 0), len(call())
    lengths = {part.shape[axis] for part in call()}
    if len(lengths) == 1 and lengths != {1}:
        words = f"each part has every {parts}th entry, not a block"
        yield option("split-interleaved", words, partial(_every, call.x, axis, parts))
    is_gate = parts == 4 or (parts == 3 and call.x.ndim == 2)
    yield from _taken(call, "gate-order" if is_gate else "concatenation-order")


def _every(x: Any, axis: int, parts: int) -> tuple[Any, ...]:
    moved = x.movedim(axis, 0)
    return tuple(moved[i::parts].movedim(0, axis) for i in range(parts))


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
    yield option(name, words, call.left_out(x))


@changes(*_PRODUCTS)
def scores(call: Called) -> Iterator[Option]:
    """A product of queries and keys that is scaled, where the original's is not."""
    x = call.args[1] if isinstance(call.x, str) else call.x
    if isinstance(x, torch.Tensor) and x.ndim >= 3:
        factor = x.shape[-1] ** -0.5
        words = f"its scores are multiplied by {factor:.3g}"
        yield option("attention-scale", words, lambda: call() * factor)


@changes("add", "__add__", "__radd__", "__iadd__", "add_")
def additions(call: Called) -> Iterator[Option]:
    """An epsilon, a mask, or a term that is left out."""
    x, other = call.x, call.args[1] if len(call.args) > 1 else None
    if isinstance(other, float) and 0 < other < 0.01:
        for value, cause in other_epsilons(other):
            yield Option(cause, partial(torch.add, x, value))
    elif isinstance(other, int | float) and abs(other) >= 0.01:
        yield option("term-left-out", f"{other:g} is not added", call.left_out())
    if not isinstance(other, torch.Tensor) or not isinstance(x, torch.Tensor):
        return
    if other.is_floating_point() and bool((other < -1e4).any()):
        yield option("causal-mask", "nothing is masked", call.left_out())
        return
    whole = torch.broadcast_shapes(x.shape, other.shape)
    for kept, which in ((x, "second"), (other, "first")):
        if kept.shape == whole:
            words = f"the {which} of two terms is not added"
            yield option("term-left-out", words, call.left_out(kept))
    if other.ndim == 3 and isinstance(other, nn.Parameter) and other.shape[1] > 1:
        yield option("token-position", "its first token has no position", lambda: x + torch.cat(
            [torch.zeros_like(other[:, :1]), other[:, 1:]], 1))  # fmt: skip


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
    if isinstance(axes, int) and not keep:
        for i, which in ((0, "first"), (-1, "last")):
            words = f"it takes the {which} token for the mean"
            yield option("pooling", words, partial(_token, x, axes, i))


def _token(x: Any, axis: int, place: int) -> Any:
    return x.select(axis, place) * 1.0


@changes("__getitem__")
def tokens(call: Called) -> Iterator[Option]:
    """One of several tokens, or states of a sequence."""
    x, index = call.args
    is_place = isinstance(index, tuple) and [type(i) for i in index] == [slice, int]
    if x.ndim == 3 and is_place and index in ((slice(None), 0), (slice(None), -1)):
        which, other = ("last", -1) if index[1] == 0 else ("first", 0)
        yield option("pooling", f"it takes the {which} token", partial(_token, x, 1, other))
        yield option("pooling", "it takes the mean of all tokens", lambda: x.mean(1))


@changes("flatten")
def flattened(call: Called) -> Iterator[Option]:
    """Channels before places, or after them."""
    if call.x.ndim >= 4:
        words = (
            "flattened in the order (H, W, C) where the next kernel's rows are in the order "
            "(C, H, W): move the channels before the reshape"
        )
        made = partial(_channels_last, call)
        yield option("reinterpreted-layout", words, made)


def _channels_last(call: Called) -> Any:
    return call.on(call.x.movedim(1, -1).contiguous())()


@changes("roll")
def rolls(call: Called) -> Iterator[Option]:
    """A cyclic shift, as of windows, that goes the other way or not at all."""
    shifts = call.get("shifts")
    back = -shifts if isinstance(shifts, int) else tuple(-shift for shift in shifts)
    yield option("cyclic-shift", "nothing is shifted", call.left_out())
    yield option("cyclic-shift", "it is shifted the other way", call.again(shifts=back))


@changes("channel_shuffle", "native_channel_shuffle")
def own_shuffle(call: Called) -> Iterator[Option]:
    """A channel shuffle of the framework's own."""
    yield from _shuffles(call.x, 1, call.get("groups"), tuple(call.x.shape))


@changes("view", "reshape")
def shuffles(call: Called) -> Iterator[Option]:
    """The reshape that ends a channel shuffle: split, transposed, merged."""
    x, split, whole = call.previous.split, call.previous.shape, tuple(_shape(call) or ())
    if (
        x is None
        or len(split) != x.ndim + 1
        or prod(split) != x.numel()
        or len(whole) not in (x.ndim, x.ndim - 1)
    ):
        return
    axis = next((i for i in range(x.ndim) if split[i] != x.shape[i]), None)
    if axis is not None and split[axis] * split[axis + 1] == x.shape[axis]:
        yield from _shuffles(x, axis, split[axis], whole)


def _shuffles(x: Any, axis: int, groups: int, whole: tuple[int, ...]) -> Iterator[Option]:
    def shuffled(g: int, at: int) -> Callable[[], Any]:
        s = x.shape
        split = (*s[:at], g, s[at] // g, *s[at + 1 :])
        return lambda: x.reshape(split).transpose(at, at + 1).reshape(whole)

    inverse = x.shape[axis] // groups
    words = f"shuffled with {inverse} groups where {groups} is right"
    yield option("inverse-groups", words, shuffled(inverse, axis))
    words = "the channels are in the order they had"
    yield option("no-transpose", words, lambda: x.reshape(whole) * 1.0)
    words = "the channels are in reverse"
    yield option("reversed-channels", words, lambda: x.flip(axis).reshape(whole))
    for other in range(1, x.ndim):
        if other != axis and x.shape[other] % groups == 0:
            words = f"axis {other} is shuffled, not channels"
            yield option("wrong-axis-channels-last", words, shuffled(groups, other))


@changes("transpose", "permute", "swapaxes")
def untransposed(call: Called) -> Iterator[Option]:
    """Axes that are left as they are."""
    yield option("axes-not-swapped", "two axes are not swapped", call.left_out())


@changes("view", "reshape", "unflatten")
def reshapes(call: Called) -> Iterator[Option]:
    """An axis split as (b, a) where (a, b) is right, or merged so."""
    x, shape = call.x, _shape(call)
    if shape is None:
        return
    if len(shape) == 2 and x.ndim >= 4:
        yield from flattened(call)
    more = len(shape) - x.ndim
    axis = next((i for i, (s, t) in enumerate(zip(x.shape, shape, strict=False)) if s != t), None)
    if axis is None:
        return
    if more in (1, 2) and prod(shape[axis : axis + more + 1]) == x.shape[axis]:
        yield from _split_otherwise(x, axis, shape, more + 1)
    elif more == -1 and x.shape[axis] * x.shape[axis + 1] == shape[axis]:
        name, words = "heads-split", f"axes {axis} and {axis + 1} are merged the other way round"
        if call.previous.name == "expand":
            name, words = "heads-repeated", "all heads are repeated in turn, not each by itself"
        yield option(name, words, lambda: x.transpose(axis, axis + 1).reshape(shape))


def _split_otherwise(x: Any, axis: int, shape: list[int], parts: int) -> Iterator[Option]:
    factors = shape[axis : axis + parts]
    for order in _orders(parts) if 1 not in factors else ():
        split = tuple(factors[i] for i in order)
        other = (*shape[:axis], *split, *shape[axis + parts :])
        back = [*range(axis), *(axis + order.index(i) for i in range(parts)),
                *range(axis + parts, len(shape))]  # fmt: skip
        words = f"axis {axis} is split as {split} where {tuple(factors)} is right"

        def made(other: tuple[int, ...] = other, back: list[int] = back) -> Any:
            return x.reshape(other).permute(back)

        yield option("heads-split", words, made)


def _shape(call: Called) -> list[int] | None:
    """The shape that a reshape is given, without -1."""
    shape = call.args[1:] if len(call.args) > 2 else (*call.args[1:], ())[0]
    shape = (shape,) if isinstance(shape, int) else shape
    is_shape = isinstance(shape, tuple | list | torch.Size)
    if not is_shape or not all(isinstance(s, int) for s in shape):
        return None
    known = prod(s for s in shape if s != -1)
    return [call.x.numel() // max(known, 1) if s == -1 else int(s) for s in shape]
