"""Forward and hand-written backward of every layer, over any number system.

A forward gives the output and a pullback: the function from the output's cotangent to the input's
cotangent (None where the input is tokens) and the gradients of the layer's parameters, by name.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from conformance.arithmetic.system import Numbers, negative
from conformance.channel_shuffle.definition import permutation
from conformance.gradient_mean.attention import attention
from conformance.gradient_mean.models import EPSILON, Layer

Tensors = dict[str, Any]
Pullback = Callable[[Any], tuple[Any, Tensors]]


def forward(
    numbers: Numbers, layer: Layer, state: Mapping[str, Any], x: Any, *, training: bool
) -> tuple[Any, Pullback]:
    """Returns the layer's output (n, …), and its pullback.

    Args:
        numbers: the number system.
        layer: the layer to compute.
        state: parameters and buffers of the model, by name.
        x: the input (n, …); integers where the layer is an embedding.
        training: whether a batch norm uses its batch's statistics.
    """
    # Between layers frameworks store numbers. But a batch norm in evaluation is an affine map, and
    # may be folded into the layer before it.
    is_folded = layer.kind == "batch_norm" and not training
    known = x if layer.kind == "embedding" or is_folded else numbers.stored(x)
    y, pull = _forward(numbers, layer, state, known, training=training)
    return y, lambda dy: pull(numbers.stored(dy))


def _forward(
    numbers: Numbers, layer: Layer, state: Mapping[str, Any], x: Any, *, training: bool
) -> tuple[Any, Pullback]:
    match layer.kind:
        case "linear":
            return _linear(numbers, layer, state, x)
        case "conv2d":
            return _conv2d(numbers, layer, state, x)
        case "embedding":
            return _embedding(numbers, layer, state, x)
        case "relu":
            return _relu(numbers, x)
        case "channel_shuffle":
            return _channel_shuffle(numbers, layer, x)
        case "avg_pool":
            return _avg_pool(numbers, layer, x)
        case "max_pool":
            return _max_pool(numbers, layer, x)
        case "batch_norm" if not training:
            return _fixed_norm(numbers, layer, state, x)
        case "batch_norm":
            return _norm(numbers, layer, state, x, over=0)
        case "layer_norm":
            return _norm(numbers, layer, state, x, over=-1)
        case "attention":
            return attention(numbers, layer, state, x)
        case "flatten":
            return _flatten(numbers, x)
        case "dropout" | "channel_dropout":
            return _doubled(numbers, x)


def shape_of(numbers: Numbers, x: Any) -> tuple[int, ...]:
    """Returns the tensor's shape, whatever the number system keeps in it."""
    shapes: list[tuple[int, ...]] = []

    def look(elements: np.ndarray) -> np.ndarray:
        shapes.append(elements.shape)
        return elements

    numbers.moved(x, look)
    return shapes[0]


def _reshaped(numbers: Numbers, x: Any, *shape: int) -> Any:
    return numbers.moved(x, lambda elements: elements.reshape(shape))


def _linear(
    numbers: Numbers, layer: Layer, state: Mapping[str, Any], x: Any
) -> tuple[Any, Pullback]:
    """Multiplies the last axis by Wᵀ, and adds b."""
    name = f"{layer.tied_to or layer.name}.weight"
    weight = state[name]
    shape = shape_of(numbers, x)
    rows = _reshaped(numbers, x, -1, shape[-1])
    y = numbers.contract("ri,oi->ro", rows, weight)
    if layer.bias:
        y = numbers.add(y, state[f"{layer.name}.bias"])

    def pull(dy: Any) -> tuple[Any, Tensors]:
        dy = _reshaped(numbers, dy, -1, layer.weight[0])
        parameters = {name: numbers.contract("ro,ri->oi", dy, rows)}
        if layer.bias:
            parameters[f"{layer.name}.bias"] = _reshaped(numbers, numbers.total(dy, (0,)), -1)
        dx = numbers.contract("ro,oi->ri", dy, weight)
        return _reshaped(numbers, dx, *shape), parameters

    return _reshaped(numbers, y, *shape[:-1], layer.weight[0]), pull


def _conv2d(
    numbers: Numbers, layer: Layer, state: Mapping[str, Any], x: Any
) -> tuple[Any, Pullback]:
    """Cross-correlates in groups, stride 1; indices: n sample, g group, c in, o out, hw, ij."""
    (channels_out, channels_in, *kernel), g = layer.weight, layer.groups
    weight = _reshaped(
        numbers, state[f"{layer.name}.weight"], g, channels_out // g, channels_in, *kernel
    )
    patches = _patches(numbers, x, g, kernel, [layer.padding] * 2)
    y = numbers.contract("ngchwij,gocij->ngohw", patches, weight)
    y = numbers.moved(y, lambda v: v.reshape(v.shape[0], channels_out, *v.shape[3:]))
    if layer.bias:
        y = numbers.add(y, _reshaped(numbers, state[f"{layer.name}.bias"], -1, 1, 1))

    def pull(dy: Any) -> tuple[Any, Tensors]:
        grouped = numbers.moved(dy, lambda v: v.reshape(v.shape[0], g, -1, *v.shape[2:]))
        dw = numbers.contract("ngchwij,ngohw->gocij", patches, grouped)
        parameters = {f"{layer.name}.weight": _reshaped(numbers, dw, *layer.weight)}
        if layer.bias:
            parameters[f"{layer.name}.bias"] = _reshaped(numbers, numbers.total(dy, (0, 2, 3)), -1)
        # The input's cotangent is the full correlation with the reversed kernel.
        around = _patches(numbers, dy, g, kernel, [side - 1 - layer.padding for side in kernel])
        turned = numbers.moved(weight, lambda v: v[..., ::-1, ::-1])
        dx = numbers.contract("ngohwij,gocij->ngchw", around, turned)
        dx = numbers.moved(dx, lambda v: v.reshape(v.shape[0], g * channels_in, *v.shape[3:]))
        return dx, parameters

    return y, pull


def _patches(numbers: Numbers, x: Any, groups: int, kernel: list[int], padding: list[int]) -> Any:
    """Cuts (n, C, H, W) into the patch of a kernel at each place: (n, g, C/g, H', W', i, j)."""

    def cut(v: np.ndarray) -> np.ndarray:
        padded = np.pad(v, [(0, 0), (0, 0), *((p, p) for p in padding)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
        return np.asarray(windows.reshape(v.shape[0], groups, -1, *windows.shape[2:]))

    return numbers.moved(x, cut)


def _embedding(
    numbers: Numbers, layer: Layer, state: Mapping[str, Any], tokens: np.ndarray
) -> tuple[Any, Pullback]:
    """Looks up rows of the weight; backwards this is a sum of products with one-hot vectors."""
    name, (words, features) = f"{layer.name}.weight", layer.weight
    chosen = numbers.exactly(np.eye(words)[tokens.reshape(-1)])
    y = numbers.moved(state[name], lambda v: v[tokens])

    def pull(dy: Any) -> tuple[Any, Tensors]:
        rows = _reshaped(numbers, dy, -1, features)
        return None, {name: numbers.contract("rv,rd->vd", chosen, rows)}

    return y, pull


def _relu(numbers: Numbers, x: Any) -> tuple[Any, Pullback]:
    passes = numbers.positive(x)
    return numbers.keep(x, passes), lambda dy: (numbers.keep(dy, passes), {})


def _channel_shuffle(numbers: Numbers, layer: Layer, x: Any) -> tuple[Any, Pullback]:
    order = permutation(shape_of(numbers, x)[1], layer.groups)
    back = np.argsort(order)
    y = numbers.moved(x, lambda v: v[:, order])
    return y, lambda dy: (numbers.moved(dy, lambda v: v[:, back]), {})


def _windows(numbers: Numbers, x: Any, side: int) -> Any:
    """Cuts (n, C, H, W) into windows (n, C, H/s, W/s, s·s)."""

    def cut(v: np.ndarray) -> np.ndarray:
        n, c, h, w = v.shape
        tiles = v.reshape(n, c, h // side, side, w // side, side)
        return np.moveaxis(tiles, 3, 4).reshape(n, c, h // side, w // side, side * side)

    return numbers.moved(x, cut)


def _from_windows(numbers: Numbers, x: Any, side: int) -> Any:
    def joined(v: np.ndarray) -> np.ndarray:
        n, c, h, w, _ = v.shape
        tiles = v.reshape(n, c, h, w, side, side)
        return np.moveaxis(tiles, 4, 3).reshape(n, c, h * side, w * side)

    return numbers.moved(x, joined)


def _avg_pool(numbers: Numbers, layer: Layer, x: Any) -> tuple[Any, Pullback]:
    side, share = layer.window, Fraction(1, layer.window**2)
    y = numbers.scale(numbers.total(_windows(numbers, x, side), (4,)), share)

    def pull(dy: Any) -> tuple[Any, Tensors]:
        repeated = numbers.moved(dy, lambda v: np.repeat(v[..., None], side * side, axis=-1))
        return _from_windows(numbers, numbers.scale(repeated, share), side), {}

    return numbers.moved(y, lambda v: v[..., 0]), pull


def _max_pool(numbers: Numbers, layer: Layer, x: Any) -> tuple[Any, Pullback]:
    side = layer.window
    windows = _windows(numbers, x, side)
    place = numbers.largest(windows, 4)
    y = numbers.total(numbers.keep(windows, place), (4,))

    def pull(dy: Any) -> tuple[Any, Tensors]:
        repeated = numbers.moved(dy, lambda v: np.repeat(v[..., None], side * side, axis=-1))
        return _from_windows(numbers, numbers.keep(repeated, place), side), {}

    return numbers.moved(y, lambda v: v[..., 0]), pull


def _fixed_norm(
    numbers: Numbers, layer: Layer, state: Mapping[str, Any], x: Any
) -> tuple[Any, Pullback]:
    """Normalises with running statistics, which is an affine map."""
    mean, variance = state[f"{layer.name}.running_mean"], state[f"{layer.name}.running_var"]
    weight = state[f"{layer.name}.weight"]
    root = numbers.rsqrt(numbers.add(variance, numbers.exactly(np.array(EPSILON))))
    normal = numbers.multiply(numbers.add(x, negative(numbers, mean)), root)
    y = numbers.add(numbers.multiply(normal, weight), state[f"{layer.name}.bias"])

    def pull(dy: Any) -> tuple[Any, Tensors]:
        dx = numbers.multiply(dy, numbers.multiply(weight, root))
        return dx, _affine(numbers, layer, normal, dy)

    return y, pull


def _norm(
    numbers: Numbers, layer: Layer, state: Mapping[str, Any], x: Any, *, over: int
) -> tuple[Any, Pullback]:
    """Normalises over axis 0 (a batch norm) or over the last (a layer norm); x is (n, features)."""
    axes = (over % 2,)
    share = Fraction(1, shape_of(numbers, x)[over])
    weight = state[f"{layer.name}.weight"]
    # Only a wrong way gives samples shares of their own in the statistics.
    shares = state.get(f"{layer.name}.shares")

    def mean(v: Any) -> Any:
        return numbers.scale(numbers.total(v, axes), share)

    def statistic(v: Any) -> Any:
        return mean(v) if shares is None else numbers.total(numbers.multiply(v, shares), axes)

    centred = numbers.add(x, negative(numbers, numbers.stored(statistic(x))))
    variance = statistic(numbers.multiply(centred, centred))
    root = numbers.rsqrt(numbers.add(variance, numbers.exactly(np.array(EPSILON))))
    normal = numbers.multiply(centred, root)
    y = numbers.add(numbers.multiply(normal, weight), state[f"{layer.name}.bias"])

    def pull(dy: Any) -> tuple[Any, Tensors]:
        inner = numbers.multiply(dy, weight)
        slope = numbers.stored(mean(numbers.multiply(inner, normal)))
        along = numbers.add(numbers.stored(mean(inner)), numbers.multiply(normal, slope))
        if shares is not None:
            along = numbers.scale(numbers.multiply(along, shares), 1 / share)
        rest = numbers.add(inner, negative(numbers, along))
        # The derivative of the variance by the mean is zero, but a framework may compute it.
        idle = numbers.multiply(numbers.stored(mean(numbers.stored(normal))), slope)
        rest = numbers.add_zero(rest, idle)
        return numbers.multiply(rest, root), _affine(numbers, layer, normal, dy)

    return y, pull


def _affine(numbers: Numbers, layer: Layer, normal: Any, dy: Any) -> Tensors:
    """Returns the gradients of a norm's weight and bias."""
    return {
        f"{layer.name}.weight": _reshaped(
            numbers, numbers.total(numbers.multiply(dy, normal), (0,)), -1
        ),
        f"{layer.name}.bias": _reshaped(numbers, numbers.total(dy, (0,)), -1),
    }


def _doubled(numbers: Numbers, x: Any) -> tuple[Any, Pullback]:
    """Doubles, as a dropout with probability 1/2 does what it keeps; `noise` drops elements."""
    return numbers.scale(x, Fraction(2)), lambda dy: (numbers.scale(dy, Fraction(2)), {})


def _flatten(numbers: Numbers, x: Any) -> tuple[Any, Pullback]:
    n, *rest = shape_of(numbers, x)
    y = _reshaped(numbers, x, n, prod(rest))
    return y, lambda dy: (_reshaped(numbers, dy, n, *rest), {})
