"""Changes that ports make to code between layers: splits, joins, sums, reshapes, shuffles."""

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from math import prod
from typing import Any

import torch
from torch import nn

from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option, Previous
from conformance.compare.torch_layer_changes_model import DEFAULTS, EPSILONS

_PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm", "einsum"}


def joins(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """Parts that are joined in another order."""
    for order in permutations(range(len(args[0]))) if len(args[0]) <= 4 else ():
        if order != tuple(range(len(args[0]))):
            words = "its parts are joined the other way round"
            if len(order) > 2:
                words = f"its parts are joined in the order {list(order)}"

            def joined(xs: Any, *a: Any, o: Any = order, **k: Any) -> Any:
                return func([xs[i] for i in o], *a, **k)

            yield Option(Cause("concatenation-order", words), joined)


def splits(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """Parts that are taken in another order, or of every second entry."""
    axis = kwargs.get("dim", args[2] if len(args) > 2 else 0)
    sizes = [part.shape[axis] for part in func(*args, **kwargs)]
    parts, x = len(sizes), args[0]

    def every(x: Any, *a: Any, **k: Any) -> Any:
        index = [slice(None)] * x.ndim
        outs = []
        for i in range(parts):
            index[axis] = slice(i, None, parts)
            outs.append(x[tuple(index)])
        return tuple(outs)

    if len(set(sizes)) == 1 and sizes[0] > 1:
        words = f"each part has every {parts}th entry, not a block"
        yield Option(Cause("split-interleaved", words), every)
    yield from _orders(func, parts, gates=parts == 4 or (parts == 3 and x.ndim == 2))


def unbindings(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """Rows that are taken in another order."""
    yield from _orders(func, len(func(*args, **kwargs)), gates=False)


def _orders(func: Any, parts: int, *, gates: bool) -> Iterator[Option]:
    name = "gate-order" if gates else "concatenation-order"
    for order in permutations(range(parts)) if parts <= 4 else ():
        if order != tuple(range(parts)):
            yield Option(Cause(name, f"its {parts} parts are taken in the order {list(order)}"),
                         lambda *a, o=order, **k: tuple(func(*a, **k)[i] for i in o))  # fmt: skip


def products(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """A factor that is left out: a number, a weight, or a gate."""
    if len(args) < 2:
        return
    if "div" in func.__name__ and isinstance(args[1], torch.Tensor) and args[1].ndim:
        words = "it does not divide by the second"
        yield Option(Cause("factor-left-out", words), lambda x, *a, **k: x * 1.0)
        return
    for keep, factor in ((args[0], args[1]), (args[1], args[0])):
        if not isinstance(keep, torch.Tensor):
            continue
        size = factor.numel() if isinstance(factor, torch.Tensor) else 1
        if size == 1 and keep.ndim:
            yield from _scales(func, keep, float(factor), previous)
        elif size > 1 and torch.broadcast_shapes(keep.shape, factor.shape) == keep.shape:
            is_weight = isinstance(factor, nn.Parameter)
            words = (
                "a weight is not multiplied by" if is_weight else "one of two factors is left out"
            )
            yield Option(Cause("layer-scale-left-out" if is_weight else "factor-left-out", words),
                         lambda *a, x=keep, **k: x * 1.0)  # fmt: skip


def scores(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """A product of queries and keys that is scaled, where the original's is not."""
    x = args[1] if isinstance(args[0], str) else args[0]
    if isinstance(x, torch.Tensor) and x.ndim >= 3:
        factor = x.shape[-1] ** -0.5
        words = f"its scores are multiplied by {factor:.3g}"
        yield Option(Cause("attention-scale", words), lambda *a, **k: func(*a, **k) * factor)


def _scales(func: Any, x: Any, value: float, previous: Previous) -> Iterator[Option]:
    factor = 1 / value if "div" in func.__name__ and value else value
    name, words = "scale-left-out", f"the factor {factor:g} is left out"
    if previous.name == "embedding":
        name, words = "embedding-scale", f"it is not multiplied by {factor:g}"
    elif x.ndim >= 3 and (
        previous.name in _PRODUCTS or abs(factor * factor * x.shape[-1] - 1) < 1e-6
    ):
        name, words = "attention-scale", "its scores are not scaled"
        yield Option(
            Cause(name, "its scores are scaled twice"), lambda *a, **k: x * factor * factor
        )
    yield Option(Cause(name, words), lambda *a, **k: x * 1.0)


def additions(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """An epsilon, a mask, or a term that is left out."""
    x, other = args[0], args[1] if len(args) > 1 else None
    if isinstance(other, float) and 0 < other < 0.01:
        for value in EPSILONS:
            name = "default-epsilon" if value in DEFAULTS else "epsilon"
            if value != other:
                yield Option(Cause(name, f"its epsilon is {value:g} where {other:g} is right"),
                             lambda x, *a, v=value: x + v)  # fmt: skip
    if isinstance(other, int | float) and abs(other) >= 0.01:
        words = f"{other:g} is not added"
        yield Option(Cause("term-left-out", words), lambda x, *a, **k: x * 1.0)
    if not isinstance(other, torch.Tensor) or not isinstance(x, torch.Tensor):
        return
    if other.is_floating_point() and bool((other < -1e4).any()):
        yield Option(Cause("causal-mask", "nothing is masked"), lambda x, *a: x * 1.0)
        return
    whole = torch.broadcast_shapes(x.shape, other.shape)
    if x.shape == whole:
        words = "the second of two terms is not added"
        yield Option(Cause("term-left-out", words), lambda x, *a: x * 1.0)
    if other.shape == whole:
        words = "the first of two terms is not added"
        yield Option(Cause("term-left-out", words), lambda x, y, *a: y * 1.0)
    if other.ndim == 3 and isinstance(other, nn.Parameter) and other.shape[1] > 1:
        words = "its first token has no position"
        yield Option(Cause("token-position", words), lambda x, y, *a: x + torch.cat(
            [torch.zeros_like(y[:, :1]), y[:, 1:]], 1))  # fmt: skip


def pooled(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """A mean over places or tokens."""
    x, rest = args[0], [*args[1:], *([kwargs["dim"]] if "dim" in kwargs else [])]
    name = func.__name__
    if name.startswith("adaptive"):
        if rest and rest[0] in (1, (1, 1), [1, 1]):
            places = tuple(range(2, x.ndim))
            yield Option(Cause("pooling", "it takes the maximum"),
                         lambda x, *a, **k: x.amax(places, keepdim=True))  # fmt: skip
        return
    if not rest or rest[0] is None or name not in ("mean", "amax"):
        return
    other = torch.amax if name == "mean" else torch.mean
    keep = {k: v for k, v in kwargs.items() if k == "keepdim"}
    axes: int | tuple[int, ...] = rest[0] if isinstance(rest[0], int) else tuple(rest[0])
    words = "it takes the maximum" if name == "mean" else "it takes the mean"
    yield Option(Cause("pooling", words), lambda x, *a, **k: other(x, axes, **keep))
    if isinstance(axes, int) and not keep:
        for i, which in ((0, "first"), (-1, "last")):
            yield Option(Cause("pooling", f"it takes the {which} token for the mean"),
                         lambda x, *a, j=i, **k: x.select(axes, j) * 1.0)  # fmt: skip


def tokens(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """One of several tokens, or states of a sequence."""
    x, index = args
    if not isinstance(index, tuple) or len(index) != 2 or x.ndim != 3:
        return
    if index[0] == slice(None) and index[1] in (0, -1):
        other = -1 - index[1]
        which = "last" if other else "first"
        yield Option(Cause("pooling", f"it takes the {which} token"),
                     lambda x, _: x[:, other] * 1.0)  # fmt: skip
        yield Option(Cause("pooling", "it takes the mean of all tokens"), lambda x, _: x.mean(1))


def flattened(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """Channels before places, or after them."""
    if args[0].ndim >= 4:
        yield Option(
            Cause(
                "reinterpreted-layout",
                "flattened in the order (H, W, C) where the next kernel's rows are in the order "
                "(C, H, W): move the channels before the reshape",
            ),
            lambda x, *a, **k: func(x.movedim(1, -1).contiguous(), *a, **k),
        )  # fmt: skip


def untransposed(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """Axes that are left as they are."""
    yield Option(Cause("axes-not-swapped", "two axes are not swapped"), lambda x, *a, **k: x * 1.0)


def _sizes(x: Any, args: Sequence[Any]) -> list[int] | None:
    """The shape that a reshape is given, without -1."""
    shape = args[1:] if len(args) > 2 else args[1] if len(args) > 1 else ()
    shape = (shape,) if isinstance(shape, int) else shape
    if not isinstance(shape, tuple | list | torch.Size) or not all(
        isinstance(s, int) for s in shape
    ):
        return None
    known = prod(s for s in shape if s != -1)
    return [x.numel() // max(known, 1) if s == -1 else int(s) for s in shape]


def reshapes(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """An axis split as (b, a) where (a, b) is right, or merged so."""
    x, shape = args[0], _sizes(args[0], args)
    if shape is None:
        return
    if len(shape) == 2 and x.ndim >= 4:
        yield from flattened(func, args, kwargs, previous)
    more = len(shape) - x.ndim
    axis = next((i for i, (s, t) in enumerate(zip(x.shape, shape, strict=False)) if s != t), None)
    if axis is None:
        return
    if more in (1, 2) and prod(shape[axis : axis + more + 1]) == x.shape[axis]:
        factors = shape[axis : axis + more + 1]
        for order in permutations(range(more + 1)):
            if order == tuple(range(more + 1)) or 1 in factors:
                continue
            other = [*shape[:axis], *(factors[i] for i in order), *shape[axis + more + 1 :]]
            back = [*range(axis), *(axis + order.index(i) for i in range(more + 1)),
                    *range(axis + more + 1, len(shape))]  # fmt: skip
            split = tuple(factors[i] for i in order)
            words = f"axis {axis} is split as {split} where {tuple(factors)} is right"
            yield Option(Cause("heads-split", words),
                         lambda x, *a, s=other, b=back: x.reshape(s).permute(b))  # fmt: skip
    elif more == -1 and x.shape[axis] * x.shape[axis + 1] == shape[axis]:
        words = f"axes {axis} and {axis + 1} are merged the other way round"
        yield Option(Cause("heads-split", words),
                     lambda x, *a, i=axis: x.transpose(i, i + 1).reshape(shape))  # fmt: skip


def shuffles(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """The reshape that ends a channel shuffle: split, transposed, merged."""
    x, split = previous.split, previous.shape
    whole = tuple(_sizes(args[0], args) or ())
    if (
        x is None
        or len(split) != x.ndim + 1
        or prod(split) != x.numel()
        or len(whole) not in (x.ndim, x.ndim - 1)
    ):
        return
    axis = next((i for i in range(x.ndim) if split[i] != x.shape[i]), None)
    if axis is None or split[axis] * split[axis + 1] != x.shape[axis]:
        return
    yield from _shuffle_options(x, axis, split[axis], whole)


def _shuffle_options(x: Any, axis: int, groups: int, whole: Any) -> Iterator[Option]:
    def shuffled(x: Any, g: int, at: int) -> Any:
        s = x.shape
        split = x.reshape(*s[:at], g, s[at] // g, *s[at + 1 :])
        return split.transpose(at, at + 1).reshape(whole)

    channels = x.shape[axis]
    words = f"shuffled with {channels // groups} groups where {groups} is right"
    yield Option(
        Cause("inverse-groups", words), lambda *a, **k: shuffled(x, channels // groups, axis)
    )
    yield Option(Cause("no-transpose", "the channels are in the order they had"),
                 lambda *a, **k: x.reshape(whole) * 1.0)  # fmt: skip
    yield Option(Cause("reversed-channels", "the channels are in reverse"),
                 lambda *a, **k: x.flip(axis).reshape(whole))  # fmt: skip
    for other in range(1, x.ndim):
        if other != axis and x.shape[other] % groups == 0:
            words = f"axis {other} is shuffled, not channels"
            yield Option(
                Cause("wrong-axis-channels-last", words),
                lambda *a, o=other, **k: shuffled(x, groups, o),
            )


def own_shuffle(func: Any, args: Any, kwargs: Any, previous: Previous) -> Iterator[Option]:
    """A channel shuffle of the framework's own."""
    groups = args[1] if len(args) > 1 else kwargs["groups"]
    yield from _shuffle_options(args[0], 1, groups, tuple(args[0].shape))


Family = Callable[[Any, Any, Any, Previous], Iterator[Option]]
FAMILIES: tuple[tuple[set[str], Family], ...] = (
    ({"cat", "concat", "concatenate"}, joins),
    ({"chunk", "split", "tensor_split"}, splits),
    ({"unbind"}, unbindings),
    (_PRODUCTS, scores),
    ({"mul", "__mul__", "__rmul__", "mul_", "__imul__", "div", "__truediv__", "div_"}, products),
    ({"add", "__add__", "__radd__", "__iadd__", "add_"}, additions),
    ({"mean", "amax", "adaptive_avg_pool1d", "adaptive_avg_pool2d"}, pooled),
    ({"__getitem__"}, tokens),
    ({"flatten"}, flattened),
    ({"view", "reshape"}, shuffles),
    ({"channel_shuffle", "native_channel_shuffle"}, own_shuffle),
    ({"transpose", "permute", "swapaxes"}, untransposed),
    ({"view", "reshape", "unflatten"}, reshapes),
)
