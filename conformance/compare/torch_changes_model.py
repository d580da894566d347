"""Changes that ports are known to make, tried on a torch original at one of the functions it calls.

A run of the original with a change asks each function that is called, in order, whether it is the
one to change. What the function is then made to do is a function of its own arguments.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import _disable_current_modes

from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option, Site

Made = Callable[..., Any]
_ACTIVATIONS: dict[str, Made] = {
    "relu": lambda x: x.clamp_min(0), "relu6": lambda x: x.clamp(0, 6), "silu": lambda x: x * x.sigmoid(),
    "gelu (erf)": lambda x: F.gelu(x), "gelu (tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "leaky_relu": lambda x: F.leaky_relu(x),
    "elu": lambda x: F.elu(x), "hardswish": lambda x: F.hardswish(x), "softplus": lambda x: F.softplus(x),
    "mish": lambda x: F.mish(x), "nothing": lambda x: x * 1.0,
}  # fmt: skip
_NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}
_DEFAULTS = {1e-3, 1e-5, 1e-6}
_EPSILONS = (1e-5, 1e-6, 1e-3, 1e-4, 1e-7, 1e-8, 1e-12, 0.0)
_LINEAR = {"linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "cat", "concat", "add", "__add__"}


class Change:
    """Asked of every function that is called: which of them to change, and into what."""

    def __init__(self, chosen: Mapping[int, tuple[str, str]] | None = None) -> None:
        """Changes nothing where nothing is chosen, and notes what could be changed."""
        self.sites: list[Site] = []
        self.chosen = dict(chosen or {})
        self._watch: Any = None
        self._state: dict[str, Any] = {}

    def begin(self, watch: Any) -> None:
        """A run begins; `watch` knows which submodule is being called."""
        self._watch, self._state = watch, {}
        self.sites = []

    def given(self, path: str, args: Any, kwargs: Any) -> Any:
        """What a submodule is given instead; a site of its own, for norms that centre."""
        if not _is_rms(self._watch.kinds.get(path, "")) or not args:
            return None
        option = Option(Cause("rms-norm-centred", "the mean is taken off, as in a layer norm"), _centred)
        number, key = len(self.sites), self.chosen.get(len(self.sites))
        self.sites.append(Site(number, path, len(self._watch.seen), (option,), "a module"))
        return ((_centred(args[0]), *args[1:]), kwargs) if key == option.key else None

    def __call__(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The function's result, changed where it was chosen."""
        name = getattr(func, "__name__", "")
        with _disable_current_modes():
            options = tuple(_options(name, func, args, kwargs, self._state))
        number, key = len(self.sites), None
        if options:
            key = self.chosen.get(number)
            self.sites.append(Site(number, self._watch.path, len(self._watch.seen), options, name))
        for option in options if key is not None else ():
            if option.key == key:
                result = option.made(*args, **kwargs)
                break
        else:
            result = func(*args, **kwargs)
        self._state = _after(name, args, kwargs, result, self._state)
        return result


def _is_rms(kind: str) -> bool:
    return "rms" in kind.lower()


def _centred(x: Any) -> Any:
    return x - x.mean(-1, keepdim=True)


def _after(name: str, args: Any, kwargs: Any, result: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Remembers the reshape that splits an axis, for the one that merges it again."""
    if name in ("view", "reshape") and isinstance(args[0], torch.Tensor):
        return {"split": args[0], "shape": tuple(result.shape)}
    if name in ("transpose", "permute", "contiguous", "swapaxes") and "split" in state:
        return state
    return state if name in ("size", "__get__", "dim", "stride") else {}


def _options(
    name: str, func: Any, args: Any, kwargs: Any, state: dict[str, Any]
) -> Iterator[Option]:
    if not args or not isinstance(args[0], torch.Tensor | list | tuple):
        return
    if name in _ACTIVATIONS or name in ("gelu", "hardtanh", "relu_", "leaky_relu_"):
        yield from _activations(name, args, kwargs)
    if name in _NORMS:
        yield from _norms(name, func)
    if name in _LINEAR or name in _NORMS:
        for other in ("relu", "gelu (erf)", "gelu (tanh)", "silu", "tanh"):
            def then(*a: Any, act: Made = _ACTIVATIONS[other], **k: Any) -> Any:
                return act(func(*a, **k))

            yield Option(Cause("activation", f"{other} was applied where there is no activation"), then)
    for names, options in _FAMILIES:
        if name in names:
            yield from options(func, args, kwargs)
    if name in ("view", "reshape") and "split" in state:
        yield from _shuffles(state, args, kwargs, func)


def _activations(name: str, args: Any, kwargs: Any) -> Iterator[Option]:
    own = {"gelu": f"gelu ({'tanh' if kwargs.get('approximate') == 'tanh' else 'erf'})",
           "hardtanh": "relu6", "relu_": "relu"}.get(name, name)  # fmt: skip
    for other, made in _ACTIVATIONS.items():
        if other == own:
            continue
        cause = "activation"
        if own.startswith("gelu") and other.startswith("gelu"):
            cause = "tanh-gelu" if "tanh" in other else "erf-gelu"
        words = f"what came out is {other} where {own} is right"
        if other == "nothing":
            words = f"nothing was done where {own} is right"
        yield Option(Cause(cause, words), lambda x, *a, m=made, **k: m(x))


_PLACE = {"layer_norm": 4, "rms_norm": 3, "group_norm": 4, "batch_norm": 7, "instance_norm": 7}


def _norms(name: str, func: Any) -> Iterator[Option]:
    place = _PLACE[name]
    for value in _EPSILONS:
        default = "default-epsilon" if value in _DEFAULTS else "epsilon"

        def with_epsilon(*a: Any, eps: Any = None, e: float = value, **k: Any) -> Any:
            a = (*a[:place], e, *a[place + 1 :]) if len(a) > place else a
            return func(*a, **k) if len(a) > place else func(*a, eps=e, **k)

        words = f"its epsilon is {value:g}, by what it gave"
        yield Option(Cause(default, words), with_epsilon)
    if name == "batch_norm":

        def other_statistics(x: Any, mean: Any, var: Any, *a: Any, **k: Any) -> Any:
            training = a[2] if len(a) > 2 else k.get("training", False)
            a = (*a[:2], not training, *a[3:]) if len(a) > 2 else a
            k = k if len(a) > 2 else {**k, "training": not training}
            if mean is None:
                return func(x, mean, var, *a, **k)
            return func(x, mean.clone(), var.clone(), *a, **k)

        yield Option(Cause("statistics", "it normalised by the other statistics: the batch's for "
                           "the running ones, or the other way round"), other_statistics)  # fmt: skip
    for kind, words in (
        ("instance", "each channel of each sample"), ("position", "the channels of each place"),
        ("batch", "each channel of the whole batch"), ("sample", "all of each sample"),
        ("unit", "groups of one channel"),
    ):  # fmt: skip
        yield Option(Cause("norm-axes", f"its mean and variance are over {words}"),
                     lambda *a, k=kind, n=name, **kw: _normalised(n, k, a, kw))  # fmt: skip
    if name == "group_norm":
        for groups in (1, 2, 3, 4, 6, 8, 16, 32):
            yield Option(
                Cause("norm-axes", f"it has {groups} groups"),
                lambda x, n, *a, g=groups, **k: func(x, g, *a, **k),
            )


def _normalised(name: str, kind: str, args: Any, kwargs: Any) -> Any:
    x = args[0]
    first = {"layer_norm": 2, "rms_norm": 2, "group_norm": 2, "batch_norm": 3, "instance_norm": 3}[name]
    weight, bias = (*args[first : first + 2], None, None)[:2]
    weight, bias = kwargs.get("weight", weight), kwargs.get("bias", bias)
    eps = kwargs.get("eps", args[_PLACE[name]] if len(args) > _PLACE[name] else 1e-5)
    spatial = tuple(range(2, x.ndim))
    axes = {"instance": spatial, "unit": spatial, "position": (1,), "batch": (0, *spatial),
            "sample": (1, *spatial)}[kind]  # fmt: skip
    centred = x - x.mean(axes, keepdim=True)
    y = centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    shape = (1, -1, *(1 for _ in spatial))
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _convolutions(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    x, weight = args[0], args[1] if len(args) > 1 else kwargs["weight"]
    n = weight.ndim - 2
    bias = args[2] if len(args) > 2 else kwargs.get("bias")
    stride, padding, dilation = (
        _sizes(args[i] if len(args) > i else kwargs.get(k, d), n)
        for i, k, d in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
    )
    groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
    own = [(p, p) for p in padding]
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    same = []
    for size, s, k in zip(x.shape[-n:], stride, kernel, strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        same.append((total // 2, total - total // 2))
    choices = {"which is SAME, ": same, "which is VALID, ": [(0, 0)] * n}
    for before in range(max(kernel)):
        for after in range(max(kernel)):
            choices.setdefault(f"{before} and {after}, ", [(before, after)] * n)
    seen = [own]
    for words, pads in choices.items():
        if pads in seen:
            continue
        seen.append(pads)
        name = "same-padding" if "SAME" in words else "padding"
        told = words if "which" in words else ""

        def padded(*a: Any, p: Any = pads, **k: Any) -> Any:
            flat = [side for pair in reversed(p) for side in pair]
            return func(F.pad(x, flat), weight, bias, stride, 0, dilation, groups)

        yield Option(Cause(name, f"it padded {pads}, {told}where {own} is right"), padded)
    yield Option(
        Cause("kernel-flipped", "it convolved (kernel turned around) where torch correlates"),
        lambda *a, **k: func(x, weight.flip(tuple(range(2, n + 2))), bias, stride, padding, dilation, groups),
    )


def _sizes(value: Any, n: int) -> list[int]:
    if isinstance(value, str):
        return [0] * n
    return [value] * n if isinstance(value, int) else list(value)


def _transposed(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    def flipped(x: Any, weight: Any, *a: Any, **k: Any) -> Any:
        return func(x, weight.flip(tuple(range(2, weight.ndim))), *a, **k)

    yield Option(Cause("kernel-flipped", "its kernel is turned around"), flipped)
    weight = args[1]
    stride = _sizes(args[3] if len(args) > 3 else kwargs.get("stride", 1), weight.ndim - 2)
    padding = _sizes(args[4] if len(args) > 4 else kwargs.get("padding", 0), weight.ndim - 2)
    for before in range(4):
        for after in range(4):
            if (before, after) == (padding[0], padding[0]):
                continue

            def cut(x: Any, w: Any, bias: Any = None, *a: Any, b: int = before, e: int = after, **k: Any) -> Any:
                full = func(x, w, bias, stride, 0)
                spatial = (slice(b, size - e) for size in full.shape[2:])
                return full[(slice(None), slice(None), *spatial)]

            words = f"it leaves out {before} before and {after} after where {padding[0]} is right"
            yield Option(Cause("padding", words), cut)


def _pools(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    x = args[0]
    name = func.__name__
    kernel = args[1] if len(args) > 1 else kwargs.get("kernel_size")
    stride = (args[2] if len(args) > 2 else kwargs.get("stride")) or kernel
    padding = args[3] if len(args) > 3 else kwargs.get("padding", 0)
    if not isinstance(kernel, int) or not isinstance(stride, int) or not isinstance(padding, int):
        return
    is_max = "max" in name
    fill = float("-inf") if is_max else 0.0
    n = 1 if name.endswith("1d") else 2
    plain: Made = {1: F.max_pool1d, 2: F.max_pool2d}[n] if is_max else {1: F.avg_pool1d, 2: F.avg_pool2d}[n]
    if is_max and padding:
        yield Option(
            Cause("pooling", "it pads with zeros where nothing may win that is not there"),
            lambda *a, **k: plain(F.pad(x, [padding] * 2 * n), kernel, stride),
        )
    if not is_max and padding:
        yield Option(Cause("pooling-counts-padding", "its mean counts padding otherwise"),
                     lambda *a, **k: plain(x, kernel, stride, padding,
                                           count_include_pad=not k.get("count_include_pad", True)))  # fmt: skip
    totals = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-n:]]
    flat = [side for t in reversed(totals) for side in (t // 2, t - t // 2)]
    yield Option(Cause("same-padding", f"it padded {flat[:2]}, which is SAME, where {padding} is right"),
                 lambda *a, **k: plain(F.pad(x, flat, value=fill), kernel, stride))  # fmt: skip
    yield Option(Cause("padding", "it does not pad"), lambda *a, **k: plain(x, kernel, stride))
    other: Made = {1: F.avg_pool1d, 2: F.avg_pool2d}[n] if is_max else {1: F.max_pool1d, 2: F.max_pool2d}[n]
    yield Option(Cause("pooling", "it takes the mean" if is_max else "it takes the maximum"),
                 lambda *a, **k: other(x, kernel, stride, padding))  # fmt: skip


def _interpolations(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    for mode in ("nearest", "bilinear", "bicubic"):
        for corners in (None,) if mode == "nearest" else (False, True):
            words = f"it is {mode}" + (" with aligned corners" if corners else "")

            def made(*a: Any, m: str = mode, c: Any = corners, **k: Any) -> Any:
                return func(*a[:3], **{**k, "mode": m, "align_corners": c})

            if (mode, corners) != (kwargs.get("mode", "nearest"), kwargs.get("align_corners")):
                yield Option(Cause("interpolation", words), made)


def _pads(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    own = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
    for mode in ("constant", "reflect", "replicate", "circular"):
        if mode != own:
            yield Option(Cause("padding", f"it pads by {mode} where {own} is right"),
                         lambda x, p, *a, m=mode, **k: F.pad(x, p, mode=m))  # fmt: skip


def _joins(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    parts = list(args[0])
    if len(parts) == 2 and axis in (-1, parts[0].ndim - 1) and parts[0].shape == parts[1].shape:
        yield Option(_ROTARY, lambda xs, *a, **k: torch.stack(list(xs), -1).flatten(-2))
    yield Option(Cause("concatenation-order", "its parts are joined the other way round"),
                 lambda xs, *a, **k: func(list(xs)[::-1], *a, **k))  # fmt: skip


_ROTARY = Cause("rotary-layout", "it rotates neighbours, (0, 1), (2, 3), …, where halves are right")


def _halves(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    """x[..., : d / 2] and x[..., d / 2 :]."""
    x, index = args
    last = index[-1] if isinstance(index, tuple) and index and index[0] is Ellipsis else None
    half = x.shape[-1] // 2 if x.ndim else 0
    if isinstance(last, slice) and last.step is None and len(index) == 2 and half:
        if last.stop == half and not last.start:
            yield Option(_ROTARY, lambda x, _: x[..., ::2])
        elif last.start == half and last.stop is None:
            yield Option(_ROTARY, lambda x, _: x[..., 1::2])


def _splits(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    axis = kwargs.get("dim", args[2] if len(args) > 2 else 0)
    parts = len(func(*args, **kwargs))

    def every(x: Any, *a: Any, **k: Any) -> Any:
        index = [slice(None)] * x.ndim
        outs = []
        for i in range(parts):
            index[axis] = slice(i, None, parts)
            outs.append(x[tuple(index)])
        return tuple(outs)

    if parts == 2 and axis in (-1, args[0].ndim - 1):
        yield Option(_ROTARY, every)
    yield Option(Cause("split-interleaved", f"each part has every {parts}th entry, not a block"), every)
    for order in permutations(range(parts)) if parts <= 4 else ():
        if order != tuple(range(parts)):
            name = "gate-order" if parts in (3, 4) else "concatenation-order"
            yield Option(Cause(name, f"its {parts} parts are taken in the order {list(order)}"),
                         lambda *a, o=order, **k: tuple(func(*a, **k)[i] for i in o))  # fmt: skip


def _scalings(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    if len(args) > 1 and isinstance(args[1], int | float):
        yield Option(Cause("scale-left-out", f"the factor {args[1]:g} is left out"), lambda x, *a: x * 1.0)


def _additions(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    other = args[1] if len(args) > 1 else None
    if isinstance(other, float) and 0 < other < 0.01:
        for value in _EPSILONS:
            name = "default-epsilon" if value in _DEFAULTS else "epsilon"
            if value != other:
                yield Option(Cause(name, f"its epsilon is {value:g} where {other:g} is right"),
                             lambda x, *a, v=value: x + v)  # fmt: skip
    if isinstance(other, torch.Tensor) and other.is_floating_point() and bool(torch.isinf(other).any()):
        yield Option(Cause("causal-mask", "nothing is masked"), lambda x, *a: x * 1.0)
    if isinstance(other, torch.Tensor):
        yield Option(Cause("term-left-out", "the second of two terms is not added"), lambda x, *a: x * 1.0)


def _masks(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    yield Option(Cause("causal-mask", "nothing is masked"), lambda x, *a, **k: x * 1.0)


def _triangles(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    own = args[1] if len(args) > 1 else kwargs.get("diagonal", 0)
    for shift in (-1, 1):
        yield Option(Cause("causal-mask", f"the mask is shifted by {shift}"),
                     lambda x, *a, d=own + shift, **k: func(x, d))  # fmt: skip


def _attention(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    width = args[0].shape[-1]
    yield Option(Cause("attention-scale", "its scores are not scaled"),
                 lambda *a, **k: func(*a, **{**k, "scale": 1.0}))  # fmt: skip
    yield Option(Cause("attention-scale", "its scores are divided by the width"),
                 lambda *a, **k: func(*a, **{**k, "scale": 1.0 / width}))  # fmt: skip
    causal = bool(kwargs.get("is_causal"))
    words = "nothing is masked" if causal else "it masks what comes later"
    yield Option(Cause("causal-mask", words),
                 lambda *a, **k: func(*a[:3], **{**k, "attn_mask": None, "is_causal": not causal}))  # fmt: skip


def _embeddings(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    weight = args[1] if len(args) > 1 else kwargs["weight"]
    yield Option(Cause("embedding-scale", "it multiplies by the root of the width"),
                 lambda *a, **k: func(*a, **k) * weight.shape[-1] ** 0.5)  # fmt: skip


def _softmaxes(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    for axis in range(-args[0].ndim, 0):
        yield Option(Cause("softmax-axis", f"its sum is over axis {axis}"),
                     lambda x, *a, d=axis, **k: torch.softmax(x, d))  # fmt: skip


def _flattened(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    x = args[0]
    if x.ndim >= 4:
        yield Option(
            Cause("reinterpreted-layout", "flattened in the order (H, W, C) where the next kernel's "
                  "rows are in the order (C, H, W): move the channels before the reshape"),
            lambda x, *a, **k: func(x.movedim(1, -1).contiguous(), *a, **k),
        )  # fmt: skip


def _untransposed(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    yield Option(Cause("axes-not-swapped", "two axes are not swapped"), lambda x, *a, **k: x * 1.0)


def _reshapes(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    """An axis split as (b, a) where (a, b) is right."""
    x, shape = args[0], args[1:] if len(args) > 2 else args[1] if len(args) > 1 else ()
    if not isinstance(shape, tuple | list | torch.Size) or not all(isinstance(s, int) for s in shape):
        return
    if len(shape) == 2 and x.ndim >= 4:
        yield from _flattened(func, args, kwargs)
    for i in range(len(shape) - 1):
        if len(shape) == x.ndim + 1 and shape[i] * shape[i + 1] == x.shape[i] and shape[i] > 0:
            swapped = [*shape[:i], shape[i + 1], shape[i], *shape[i + 2 :]]
            yield Option(Cause("heads-split", f"axis {i} is split as ({shape[i + 1]}, {shape[i]}) "
                               f"where ({shape[i]}, {shape[i + 1]}) is right"),
                         lambda x, *a, s=swapped, j=i: func(x, s).transpose(j, j + 1))  # fmt: skip


def _shuffles(state: dict[str, Any], args: Any, kwargs: Any, func: Any) -> Iterator[Option]:
    """The reshape that ends a channel shuffle: split, transposed, merged."""
    x, split = state["split"], state["shape"]
    out = args[1:] if len(args) > 2 else args[1]
    whole = tuple(int(s) for s in out) if isinstance(out, tuple | list | torch.Size) else (out,)
    if len(split) != x.ndim + 1 or prod(split) != x.numel() or len(whole) not in (x.ndim, x.ndim - 1):
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
    yield Option(Cause("inverse-groups", f"shuffled with {channels // groups} groups where {groups} is right"),
                 lambda *a, **k: shuffled(x, channels // groups, axis))  # fmt: skip
    yield Option(Cause("no-transpose", "the channels are in the order they had"),
                 lambda *a, **k: x.reshape(whole) * 1.0)  # fmt: skip
    yield Option(Cause("reversed-channels", "the channels are in reverse"),
                 lambda *a, **k: x.flip(axis).reshape(whole))  # fmt: skip
    for other in range(1, x.ndim):
        if other != axis and x.shape[other] % groups == 0:
            yield Option(Cause("wrong-axis-channels-last", f"axis {other} is shuffled, not channels"),
                         lambda *a, o=other, **k: shuffled(x, groups, o))  # fmt: skip


def _own_shuffle(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    groups = args[1] if len(args) > 1 else kwargs["groups"]
    yield from _shuffle_options(args[0], 1, groups, tuple(args[0].shape))


_FAMILIES: tuple[tuple[set[str], Callable[..., Iterator[Option]]], ...] = (
    ({"conv1d", "conv2d", "conv3d"}, _convolutions),
    ({"conv_transpose1d", "conv_transpose2d"}, _transposed),
    ({"max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"}, _pools),
    ({"__getitem__"}, _halves),
    ({"interpolate"}, _interpolations),
    ({"pad"}, _pads),
    ({"cat", "concat", "concatenate"}, _joins),
    ({"chunk", "split", "tensor_split"}, _splits),
    ({"mul", "__mul__", "__rmul__", "div", "__truediv__"}, _scalings),
    ({"add", "__add__", "__radd__", "__iadd__", "add_"}, _additions),
    ({"masked_fill", "masked_fill_"}, _masks),
    ({"triu", "tril"}, _triangles),
    ({"scaled_dot_product_attention"}, _attention),
    ({"embedding"}, _embeddings),
    ({"softmax"}, _softmaxes),
    ({"flatten"}, _flattened),
    ({"transpose", "permute", "swapaxes"}, _untransposed),
    ({"view", "reshape"}, _reshapes),
    ({"channel_shuffle", "native_channel_shuffle"}, _own_shuffle),
)
