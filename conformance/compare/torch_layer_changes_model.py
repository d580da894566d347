"""Changes that ports make to a torch layer: activations, norms, convolutions, pools, resizes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from conformance.compare.catalogue import Cause
from conformance.compare.changes import Option

Made = Callable[..., Any]
ACTIVATIONS: dict[str, Made] = {
    "relu": lambda x: x.clamp_min(0), "relu6": lambda x: x.clamp(0, 6),
    "silu": lambda x: x * x.sigmoid(),
    "gelu (erf)": F.gelu, "gelu (tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "leaky_relu": F.leaky_relu,
    "elu": F.elu, "hardswish": F.hardswish, "softplus": F.softplus,
    "mish": F.mish, "hardsigmoid": F.hardsigmoid, "quick gelu": lambda x: x * (1.702 * x).sigmoid(),
    "nothing": lambda x: x * 1.0,
}  # fmt: skip
NORMS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}
DEFAULTS = {1e-3, 1e-5, 1e-6}
EPSILONS = (1e-5, 1e-6, 1e-3, 1e-4, 1e-7, 1e-8, 1e-12, 0.0)


def activations(name: str, args: Any, kwargs: Any) -> Iterator[Option]:
    """Every other activation, or none."""
    own = {"gelu": f"gelu ({'tanh' if kwargs.get('approximate') == 'tanh' else 'erf'})",
           "hardtanh": "relu6", "relu_": "relu"}.get(name, name)  # fmt: skip
    for other, made in ACTIVATIONS.items():
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


def norms(name: str, func: Any) -> Iterator[Option]:
    """Another epsilon, other statistics, or other axes."""
    place = _PLACE[name]
    for value in EPSILONS:
        default = "default-epsilon" if value in DEFAULTS else "epsilon"

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

        words = "it normalised by the batch's statistics for the running ones, or the other way"
        yield Option(Cause("statistics", words), other_statistics)
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
    first = {"layer_norm": 2, "rms_norm": 2, "group_norm": 2, "batch_norm": 3, "instance_norm": 3}[
        name
    ]
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


def convolutions(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    """Other paddings, and the kernel turned around."""
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
        lambda *a, **k: func(
            x, weight.flip(tuple(range(2, n + 2))), bias, stride, padding, dilation, groups
        ),
    )


def _sizes(value: Any, n: int) -> list[int]:
    if isinstance(value, str):
        return [0] * n
    return [value] * n if isinstance(value, int) else list(value)


def transposed_convolutions(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    """The kernel turned around, and other paddings."""

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

            def cut(
                x: Any, w: Any, bias: Any = None, *a: Any, b: int = before, e: int = after, **k: Any
            ) -> Any:
                full = func(x, w, bias, stride, 0)
                spatial = (slice(b, size - e) for size in full.shape[2:])
                return full[(slice(None), slice(None), *spatial)]

            words = f"it leaves out {before} before and {after} after where {padding[0]} is right"
            yield Option(Cause("padding", words), cut)


def pools(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    """Other paddings, what padding counts for, and the other kind."""
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
    plain: Made = (
        {1: F.max_pool1d, 2: F.max_pool2d}[n] if is_max else {1: F.avg_pool1d, 2: F.avg_pool2d}[n]
    )
    if is_max and padding:
        yield Option(
            Cause("pooling", "it pads with zeros where nothing may win that is not there"),
            lambda *a, **k: plain(F.pad(x, [padding] * 2 * n), kernel, stride),
        )
    if not is_max and padding:
        counts = not kwargs.get("count_include_pad", True)
        yield Option(
            Cause("pooling-counts-padding", "its mean counts padding otherwise"),
            lambda *a, **k: plain(x, kernel, stride, padding, count_include_pad=counts),
        )
    totals = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-n:]]
    flat = [side for t in reversed(totals) for side in (t // 2, t - t // 2)]
    words = f"it padded {flat[:2]}, which is SAME, where {padding} is right"
    yield Option(
        Cause("same-padding", words),
        lambda *a, **k: plain(F.pad(x, flat, value=fill), kernel, stride),
    )
    yield Option(Cause("padding", "it does not pad"), lambda *a, **k: plain(x, kernel, stride))
    other: Made = (
        {1: F.avg_pool1d, 2: F.avg_pool2d}[n] if is_max else {1: F.max_pool1d, 2: F.max_pool2d}[n]
    )
    yield Option(Cause("pooling", "it takes the mean" if is_max else "it takes the maximum"),
                 lambda *a, **k: other(x, kernel, stride, padding))  # fmt: skip


def interpolations(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    """The other modes."""
    for mode in ("nearest", "bilinear", "bicubic"):
        for corners in (None,) if mode == "nearest" else (False, True):
            words = f"it is {mode}" + (" with aligned corners" if corners else "")

            def made(*a: Any, m: str = mode, c: Any = corners, **k: Any) -> Any:
                return func(*a[:3], **{**k, "mode": m, "align_corners": c})

            if (mode, corners) != (kwargs.get("mode", "nearest"), kwargs.get("align_corners")):
                yield Option(Cause("interpolation", words), made)


def paddings(func: Any, args: Any, kwargs: Any) -> Iterator[Option]:
    """The other modes of `pad`, and its sides exchanged."""
    sides = list(args[1] if len(args) > 1 else kwargs["pad"])
    other = [s for i in range(0, len(sides), 2) for s in (sides[i + 1], sides[i])]
    if other != sides:
        yield Option(Cause("padding", f"it pads {other} where {sides} is right"),
                     lambda x, p, *a, **k: func(x, other, *a, **k))  # fmt: skip
    totals = [sum(sides[i : i + 2]) for i in range(0, len(sides), 2)]
    for words, even in (
        ("on both sides alike", [s for t in totals for s in (t // 2, t - t // 2)]),
        ("not at all", [0] * len(sides)),
    ):
        if even not in (sides, other) and min(sides) >= 0:
            yield Option(Cause("padding", f"it pads {words} where {sides} is right"),
                         lambda x, p, *a, e=even, **k: func(x, e, *a, **k))  # fmt: skip
    own = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
    for mode in ("constant", "reflect", "replicate", "circular"):
        if mode != own:
            yield Option(Cause("padding", f"it pads by {mode} where {own} is right"),
                         lambda x, p, *a, m=mode, **k: F.pad(x, p, mode=m))  # fmt: skip
