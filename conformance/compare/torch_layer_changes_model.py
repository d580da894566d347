"""Changes that ports make to a torch layer: activations, norms, convolutions, pools, pads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from conformance.compare.changes import Option, option, other_activations, other_epsilons
from conformance.compare.torch_called_model import Called, changes, every, sizes

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


ACTIVATION_CALLS = (*ACTIVATIONS, "gelu", "hardtanh", "relu_", "leaky_relu_", "elu_", "clamp",
                    "clamp_", "clamp_min", "selu", "celu", "logsigmoid", "softsign")  # fmt: skip
# Of activations the number that shapes them, torch's own, and what ports write.
_SLOPES = {
    "leaky_relu": ("negative_slope", 0.01, (0.01, 0.05, 0.1, 0.2, 0.25, 0.3)),
    "elu": ("alpha", 1.0, (1.0, 0.1, 0.2, 0.5, 2.0)),
    "celu": ("alpha", 1.0, (1.0, 0.1, 0.5, 2.0)),
    "softplus": ("beta", 1.0, (1.0, 0.5, 2.0, 10.0)),
}


@changes(*ACTIVATION_CALLS)
def activations(call: Called) -> Iterator[Option]:
    """Every other activation, or none."""
    gelu = f"gelu ({'tanh' if call.get('approximate') == 'tanh' else 'erf'})"
    own = {"gelu": gelu, "hardtanh": "relu6"}.get(call.name, call.name.removesuffix("_"))
    for other in other_activations(own, ACTIVATIONS):
        yield replace(other, made=partial(other.made, call.x))
    if own in _SLOPES:
        argument, value, others = _SLOPES[own]
        value = call.get(argument, value)
        for slope in others:
            if slope != value:
                words = f"its {argument} is {slope:g} where {value:g} is right"
                yield option("activation", words, call.again(**{argument: slope}))


@changes("exp", "log", "log1p", "square", "abs", "erf", "cos", "sin", "sqrt", "rsqrt")
def functions(call: Called) -> Iterator[Option]:
    """A function that is left out."""
    words = f"nothing was done where {call.name} is right"
    yield option("activation", words, call.left_out())


@changes(*NORMS)
def norms(call: Called) -> Iterator[Option]:
    """Another epsilon, other statistics, or other axes."""
    for value, cause in other_epsilons(_epsilon(call)):
        yield Option(cause, call.again(eps=value))
    words = "its epsilon is added to the root of the variance, not under it"
    yield option("epsilon-placement", words, partial(_normed, call, is_outside=True))
    yield option("norm-left-out", "what goes into the norm comes out", call.left_out())
    if call.name != "rms_norm":
        words = "its variance is over n − 1 where n is right"
        yield option("variance-correction", words, partial(_normed, call, correction=1))
    if call.name == "batch_norm":
        words = "it normalised by the batch's statistics for the running ones, or the other way"
        yield option("statistics", words, partial(_other_statistics, call))
    for over, axes in _other_axes(call):
        words = f"its mean and variance are over {over}"
        yield option("norm-axes", words, partial(_normed, call, axes))
    if call.name == "group_norm":
        own = call.get("num_groups")
        for groups in (1, 2, 3, 4, 6, 8, 16, 32):
            if groups != own:
                yield option("norm-axes", f"it has {groups} groups", call.again(num_groups=groups))
        words = f"each group has every {own}th channel, not a block of them"
        yield option("norm-axes", words, partial(_in_turn, call, own))


def _epsilon(call: Called) -> float:
    default = torch.finfo(call.x.dtype).eps if call.name == "rms_norm" else 1e-5
    return float(call.get("eps", default))


def _other_statistics(call: Called) -> Any:
    kept = {k: call.get(k) for k in ("running_mean", "running_var")}
    kept = {k: None if v is None else v.clone() for k, v in kept.items()}
    return call(**kept, training=not call.get("training", False))


def _axes(call: Called) -> tuple[int, ...]:
    """The axes over which a norm that has no groups takes its mean."""
    if call.name in ("layer_norm", "rms_norm"):
        return tuple(range(-len(call.get("normalized_shape")), 0))
    spatial = tuple(range(2, call.x.ndim))
    return (0, *spatial) if call.name == "batch_norm" else spatial


def _other_axes(call: Called) -> Iterator[tuple[str, tuple[int, ...]]]:
    """In words, and as numbers, what ports take the mean over as well."""
    spatial, whole = tuple(range(2, call.x.ndim)), tuple(range(1, call.x.ndim))
    choices = [("all of each sample", whole)]
    if call.name not in ("layer_norm", "rms_norm"):
        choices += [("each channel of each sample", spatial), ("the channels of each place", (1,)),
                    ("each channel of the whole batch", (0, *spatial))]  # fmt: skip
    elif call.x.ndim > 2:
        choices += [("the places of each sample", (1,)), ("the samples of the batch", (0,))]
    for over, axes in choices:
        is_own = call.name != "group_norm" and {a % call.x.ndim for a in _axes(call)} == set(axes)
        if axes and not is_own:
            yield over, axes


def _normed(
    call: Called, axes: Any = None, *, correction: int = 0, is_outside: bool = False
) -> Any:
    """The norm written out, perhaps over other axes."""
    x, own, held = call.x, call.name, None
    if axes is None and own == "group_norm":
        x, axes = x.reshape(x.shape[0], call.get("num_groups"), -1), (2,)
    elif axes is None and own == "batch_norm" and call.get("running_mean") is not None:
        if not call.get("training", False):
            shape = (1, -1, *(1 for _ in x.shape[2:]))
            held = [call.get(k).reshape(shape) for k in ("running_mean", "running_var")]
        call()  # It keeps statistics.
    axes = _axes(call) if axes is None else axes
    mean, variance = held or (0.0 if own == "rms_norm" else x.mean(axes, keepdim=True), None)
    centred = x - mean
    if variance is None:
        count = prod(x.shape[axis] for axis in axes)
        variance = (centred * centred).sum(axes, keepdim=True) / (count - correction)
    eps = _epsilon(call)
    y = centred / (torch.sqrt(variance) + eps if is_outside else torch.sqrt(variance + eps))
    return _scaled(call, y.reshape(call.x.shape))


def _scaled(call: Called, y: Any) -> Any:
    weight, bias = call.get("weight"), call.get("bias")
    if call.name not in ("layer_norm", "rms_norm"):
        shape = (1, -1, *(1 for _ in y.shape[2:]))
        weight, bias = (None if w is None else w.reshape(shape) for w in (weight, bias))
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _every(x: Any, parts: int, axis: int = 1) -> Any:
    """An axis whose entries are taken in turn: every so many first."""
    return torch.cat(every(x, parts, axis), axis)


def _in_turn(call: Called, groups: int) -> Any:
    channels = call.x.shape[1]
    weights = {k: None if call.get(k) is None else _every(call.get(k), groups, 0)
               for k in ("weight", "bias")}  # fmt: skip
    return _every(call(input=_every(call.x, groups), **weights), channels // groups)


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
    choices |= {"other axes, ": own[::-1]}
    seen = [own]
    for which, pads in choices.items():
        if pads not in seen:
            seen.append(pads)
            name = "same-padding" if "SAME" in which else "padding"
            words = f"it padded {pads}, {which if 'which' in which else ''}where {own} is right"
            yield option(name, words, padded(pads, dilation))
    flat = [side for pair in reversed(own) for side in pair]
    for mode in ("reflect", "replicate", "circular") if any(flat) else ():
        words = f"it padded by {mode} where zeros are right"
        made = partial(_padded_by, call, flat, mode)
        yield option("padding", words, made)
    fewer = [span - k for span, k in zip(spans, weight.shape[2:], strict=True)]
    if any(fewer):
        words, ones = f"its kernel is not spread by {dilation}", [1] * n
        rows = list(zip(own, fewer, strict=True))
        yield option("dilation", words, padded([(b - f, a) for (b, a), f in rows], ones))
        halves = [(b - f // 2, a - (f - f // 2)) for (b, a), f in rows]
        yield option("dilation", words + ", and padded so", padded(halves, ones))


@changes("conv1d", "conv2d", "conv3d")
def strides_and_groups(call: Called) -> Iterator[Option]:
    """Other strides, and groups whose channels are taken in turn."""
    own, groups = sizes(call.get("stride", 1), call.get("weight").ndim - 2), call.get("groups", 1)
    for stride in (1, 2):
        if own != [stride] * len(own):
            words = f"its stride is {stride} where {own} is right"
            yield option("stride", words, call.again(stride=stride))
    ahead, behind = call.x.shape[1] // groups, call.get("weight").shape[0] // groups
    words = "each group has every {}th channel of what {}, not a block of them"
    if groups > 1 < ahead:
        yield option("channel-groups", words.format(groups, "goes in"),
                     lambda: call(input=_every(call.x, groups)))  # fmt: skip
    if groups > 1 < behind:
        yield option("channel-groups", words.format(groups, "comes out"),
                     lambda: _every(call(), behind))  # fmt: skip


def _padded_by(call: Called, flat: list[int], mode: str) -> Any:
    return call(input=F.pad(call.x, flat, mode=mode), padding=0)


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
    words = "the last window that is not whole is kept, or left out, otherwise"
    yield option("pooling", words, call.again(ceil_mode=not call.get("ceil_mode", False)))
    for side in (2, 3):
        for step in (1, 2, 3):
            for pad in range(side // 2 + 1):
                if (side, step, pad) != (kernel[0], stride[0], padding[0]):
                    words = f"its window is {side}, its stride {step}, its padding {pad}"
                    yield option("pooling", words, partial(plain, x, side, step, pad))


@changes("pad")
def paddings(call: Called) -> Iterator[Option]:
    """The other modes of `pad`, and its sides exchanged or alike."""
    sides = list(call.get("pad"))
    pairs = [(sides[i], sides[i + 1]) for i in range(0, len(sides), 2)]
    choices = {
        "the other way round": [(after, before) for before, after in pairs],
        "before alone": [(sum(p), 0) for p in pairs],
        "after alone": [(0, sum(p)) for p in pairs],
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


@changes("linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d")
def raw_weights(call: Called) -> Iterator[Option]:
    """A weight as it is kept, which the original changes before it multiplies."""
    weight = call.get("weight", call.args[1] if len(call.args) > 1 else None)
    kept = call.around.weights.get(tuple(weight.shape)) if weight is not None else None
    if kept is not None and kept is not weight and not isinstance(weight, nn.Parameter):
        words = "it multiplies by its weight as it is kept"
        rest = {k: v for k, v in call.kwargs.items() if k != "weight"}
        made = partial(call.func, call.x, kept, *call.args[2:], **rest)
        yield option("weight-as-kept", words, made)


@changes("linear", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "cat", "concat", "add",
         "__add__", *NORMS)  # fmt: skip
def activated(call: Called) -> Iterator[Option]:
    """An activation after what is none."""
    for other in _ADDED:

        def then(act: Callable[..., Any] = ACTIVATIONS[other]) -> Any:
            return act(call())

        yield option("activation", f"{other} was applied where there is no activation", then)
