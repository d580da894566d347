"""Changes that ports make to a torch layer: activations, norms, convolutions, pools, resizes."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from conformance.compare.changes import Option, option, other_activations, other_epsilons
from conformance.compare.torch_called_model import Called, changes, sizes

ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": lambda x: x.clamp_min(0), "relu6": lambda x: x.clamp(0, 6),
    "silu": lambda x: x * x.sigmoid(),
    "gelu (erf)": F.gelu, "gelu (tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "leaky_relu": F.leaky_relu,
    "elu": F.elu, "hardswish": F.hardswish, "softplus": F.softplus,
    "mish": F.mish, "hardsigmoid": F.hardsigmoid, "quick gelu": lambda x: x * (1.702 * x).sigmoid(),
    "nothing": lambda x: x * 1.0,
}  # fmt: skip
_ADDED = ("relu", "gelu (erf)", "gelu (tanh)", "silu", "tanh", "relu6", "sigmoid")
NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")


@changes(*ACTIVATIONS, "gelu", "hardtanh", "relu_", "leaky_relu_", "clamp", "clamp_", "clamp_min")
def activations(call: Called) -> Iterator[Option]:
    """Every other activation, or none."""
    gelu = f"gelu ({'tanh' if call.get('approximate') == 'tanh' else 'erf'})"
    own = {"gelu": gelu, "hardtanh": "relu6", "relu_": "relu"}.get(call.name, call.name)
    for function, cause in other_activations(own, ACTIVATIONS):
        yield Option(cause, partial(function, call.x))


@changes(*NORMS)
def norms(call: Called) -> Iterator[Option]:
    """Another epsilon, other statistics, or other axes."""
    default = torch.finfo(call.x.dtype).eps if call.name == "rms_norm" else 1e-5
    for value, cause in other_epsilons(call.get("eps", default)):
        yield Option(cause, call.again(eps=value))
    yield option("norm-left-out", "what goes into the norm comes out", call.left_out())
    if call.name == "batch_norm":
        words = "it normalised by the batch's statistics for the running ones, or the other way"
        yield option("statistics", words, partial(_other_statistics, call))
    for kind, axes in (
        ("instance", "each channel of each sample"), ("position", "the channels of each place"),
        ("batch", "each channel of the whole batch"), ("sample", "all of each sample"),
        ("unit", "groups of one channel"),
    ):  # fmt: skip
        words = f"its mean and variance are over {axes}"
        yield option("norm-axes", words, partial(_normalised, call, kind))
    if call.name == "group_norm":
        for groups in (1, 2, 3, 4, 6, 8, 16, 32):
            yield option("norm-axes", f"it has {groups} groups", call.again(num_groups=groups))


def _other_statistics(call: Called) -> Any:
    kept = {k: call.get(k) for k in ("running_mean", "running_var")}
    kept = {k: None if v is None else v.clone() for k, v in kept.items()}
    return call(**kept, training=not call.get("training", False))


def _normalised(call: Called, kind: str) -> Any:
    x, eps = call.x, call.get("eps", 1e-5)
    spatial = tuple(range(2, x.ndim))
    axes = {"instance": spatial, "unit": spatial, "position": (1,), "batch": (0, *spatial),
            "sample": (1, *spatial)}[kind]  # fmt: skip
    centred = x - x.mean(axes, keepdim=True)
    y = centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    weight, bias = (
        None if w is None else w.reshape(1, -1, *(1 for _ in spatial))
        for w in (call.get("weight"), call.get("bias"))
    )  # fmt: skip
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@changes("conv1d", "conv2d", "conv3d")
def convolutions(call: Called) -> Iterator[Option]:
    """Other paddings, and a kernel that is not spread."""
    x, weight = call.x, call.get("weight")
    n = weight.ndim - 2
    stride, dilation = sizes(call.get("stride", 1), n), sizes(call.get("dilation", 1), n)
    spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    own = _own_padding(call.get("padding", 0), spans)

    def padded(pads: Sequence[tuple[int, int]], spread: Sequence[int]) -> Callable[[], Any]:
        flat = [side for pair in reversed(pads) for side in pair]
        return lambda: call(input=F.pad(x, flat), padding=0, dilation=spread)

    choices = {"which is SAME, ": _same(x, stride, spans), "which is VALID, ": [(0, 0)] * n}
    for before in range(max(spans)):
        for after in range(max(spans)):
            choices[f"{before} and {after}, "] = [(before, after)] * n
    most = own[0][0] + own[0][1]  # What is cut off later, as a causal port does, may be shifted.
    choices |= {f"{i} first, ": [(i, most - i)] * n for i in range(most + 1)}
    seen = [own]
    for which, pads in choices.items():
        if pads not in seen:
            seen.append(pads)
            name = "same-padding" if "SAME" in which else "padding"
            words = f"it padded {pads}, {which if 'which' in which else ''}where {own} is right"
            yield option(name, words, padded(pads, dilation))
    fewer = [span - k for span, k in zip(spans, weight.shape[2:], strict=True)]
    if any(fewer):
        words, ones = f"its kernel is not spread by {dilation}", [1] * n
        rows = list(zip(own, fewer, strict=True))
        yield option("dilation", words, padded([(b - f, a) for (b, a), f in rows], ones))
        halves = [(b - f // 2, a - (f - f // 2)) for (b, a), f in rows]
        yield option("dilation", words + ", and padded so", padded(halves, ones))


def _own_padding(padding: Any, spans: Sequence[int]) -> list[tuple[int, int]]:
    if padding == "same":
        return [((s - 1) // 2, s // 2) for s in spans]
    return [(p, p) for p in sizes(0 if padding == "valid" else padding, len(spans))]


def _same(x: Any, stride: Sequence[int], spans: Sequence[int]) -> list[tuple[int, int]]:
    """What TensorFlow and JAX call SAME."""
    rows = zip(x.shape[-len(spans) :], stride, spans, strict=True)
    totals = [max((-(-size // s) - 1) * s + span - size, 0) for size, s, span in rows]
    return [(t // 2, t - t // 2) for t in totals]


@changes("conv_transpose1d", "conv_transpose2d")
def transposed_convolutions(call: Called) -> Iterator[Option]:
    """Other paddings."""
    own = sizes(call.get("padding", 0), call.x.ndim - 2)[0]
    for before in range(4):
        for after in range(4):
            if (before, after) != (own, own):
                words = f"it leaves out {before} before and {after} after where {own} is right"
                yield option("padding", words, partial(_cut, call, before, after))


def _cut(call: Called, before: int, after: int) -> Any:
    full = call.func(call.x, call.get("weight"), call.get("bias"), call.get("stride", 1), 0)
    spatial = (slice(before, size - after) for size in full.shape[2:])
    return full[(slice(None), slice(None), *spatial)]


@changes("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d")
def pools(call: Called) -> Iterator[Option]:
    """Other paddings, what padding counts for, and the other kind."""
    x, n, is_max = call.x, 1 if call.name.endswith("1d") else 2, "max" in call.name
    kernel = sizes(call.get("kernel_size"), n)
    stride = sizes(call.get("stride") or kernel, n)
    padding = sizes(call.get("padding", 0), n)
    kinds = (F.max_pool1d, F.max_pool2d), (F.avg_pool1d, F.avg_pool2d)
    plain, other = (kinds[kind][n - 1] for kind in (not is_max, is_max))
    own = [side for p in reversed(padding) for side in (p, p)]
    same = [side for pair in reversed(_same(x, stride, kernel)) for side in pair]

    def padded(flat: list[int], fill: float) -> Callable[[], Any]:
        return lambda: plain(F.pad(x, flat, value=fill), kernel, stride)

    if is_max and any(padding):
        words = "it pads with zeros where nothing may win that is not there"
        yield option("padding", words, padded(own, 0.0))
    if not is_max and any(padding):
        counts = not call.get("count_include_pad", True)
        words = "its mean counts padding otherwise"
        made = partial(plain, x, kernel, stride, padding, count_include_pad=counts)
        yield option("pooling-counts-padding", words, made)
    words = f"it padded {same[:2]}, which is SAME, where {padding[0]} is right"
    yield option("same-padding", words, padded(same, float("-inf") if is_max else 0.0))
    yield option("padding", "it does not pad", partial(plain, x, kernel, stride))
    words = "it takes the mean" if is_max else "it takes the maximum"
    yield option("pooling", words, partial(other, x, kernel, stride, padding))


@changes("interpolate")
def interpolations(call: Called) -> Iterator[Option]:
    """The other modes."""
    own = call.get("mode", "nearest"), call.get("align_corners")
    for mode in ("nearest", "bilinear", "bicubic"):
        for corners in (None,) if mode == "nearest" else (False, True):
            words = f"it is {mode}" + " with aligned corners" * bool(corners)
            if (mode, corners) != own:
                made = call.again(mode=mode, align_corners=corners)
                yield option("interpolation", words, made)


@changes("pad")
def paddings(call: Called) -> Iterator[Option]:
    """The other modes of `pad`, and its sides exchanged or alike."""
    sides = list(call.get("pad"))
    pairs = [(sides[i], sides[i + 1]) for i in range(0, len(sides), 2)]
    choices = {
        "the other way round": [(after, before) for before, after in pairs],
        "on both sides alike": [(sum(p) // 2, sum(p) - sum(p) // 2) for p in pairs],
        "not at all": [(0, 0)] * len(pairs),
    }
    seen = [pairs]
    for how, other in choices.items():
        if other not in seen:
            seen.append(other)
            flat = [side for pair in other for side in pair]
            words = f"it pads {how}, {flat} where {sides} is right"
            yield option("padding", words, call.again(pad=flat))
    own = call.get("mode", "constant")
    for mode in ("constant", "reflect", "replicate", "circular"):
        if mode != own:
            words = f"it pads by {mode} where {own} is right"
            yield option("padding", words, partial(F.pad, call.x, sides, mode=mode))


@changes("linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "cat", "concat", "add",
         "__add__", *NORMS)  # fmt: skip
def activated(call: Called) -> Iterator[Option]:
    """An activation after what is none."""
    for other in _ADDED:

        def then(act: Callable[..., Any] = ACTIVATIONS[other]) -> Any:
            return act(call())

        yield option("activation", f"{other} was applied where there is no activation", then)
