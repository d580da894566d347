"""What each known layer makes of an input, with an error that no order of its sums exceeds.

Channels at axis 1, weights in torch's form. The arithmetic is the oracle's `Running`; a bound is
first of all Σ|w||x| times γ_n, as `conformance.arithmetic.running` derives it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod

import numpy as np

from conformance.arithmetic.running import UNIT_ROUNDOFF, Approximate, Running
from conformance.arithmetic.system import negative
from conformance.compare.trace import Layer

Pullback = Callable[[Approximate], tuple[Approximate, dict[str, Approximate]]]
Sides = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Computed:
    """A layer's output; its pullback to the input's cotangent and the weights'; its new buffers."""

    output: Approximate
    pull: Pullback
    state: Mapping[str, Approximate] = field(default_factory=dict)


def compute(
    dtype: str, layer: Layer, weights: Mapping[str, np.ndarray], x: np.ndarray, *, training: bool
) -> Computed:
    """The layer on an input that is taken as it is, in a precision.

    Args:
        dtype: f64, f32, f16 or bf16; every operation rounds to it.
        layer: what to compute.
        weights: by role.
        x: (N, …).
        training: whether a batch norm uses its batch's statistics.

    Raises:
        ValueError: if the weights or the input have shapes that the layer cannot take.

    >>> layer = Layer("linear", {})
    >>> weights = {"weight": np.array([[1.0, 2.0]]), "bias": np.array([0.5])}
    >>> compute("f32", layer, weights, np.array([[3.0, 4.0]]), training=True).output.value
    array([[11.5]])
    """
    numbers = Running(dtype)
    held = {role: numbers.exactly(values) for role, values in weights.items()}
    given = numbers.exactly(x)
    match layer.kind:
        case "linear":
            return _linear(numbers, held, given)
        case "conv":
            return _conv(numbers, layer, held, given)
        case "batch_norm" if not training:
            return _fixed_norm(numbers, layer, held, given)
        case "batch_norm":
            return _batch_norm(numbers, dtype, layer, held, given)
        case "layer_norm":
            axes = tuple(range(x.ndim - layer.axes, x.ndim))
            return _norm(numbers, dtype, layer.epsilon, held, given, axes, x.shape[-layer.axes :])
        case "group_norm":
            return _group_norm(numbers, dtype, layer, held, given)


def sides_of(layer: Layer, kernel: Sequence[int], spatial: Sequence[int]) -> Sides:
    """A convolution's padding in numbers; the words SAME and VALID are XLA's.

    >>> sides_of(Layer("conv", {}, (2, 2), "SAME", (1, 1)), (3, 3), (12, 13))
    ((0, 1), (1, 1))
    """
    if not isinstance(layer.padding, str):
        return layer.padding
    if layer.padding == "VALID":
        return tuple((0, 0) for _ in kernel)
    found = []
    for size, side, stride, dilation in zip(
        spatial, kernel, layer.stride, layer.dilation, strict=True
    ):
        total = max((-(-size // stride) - 1) * stride + (side - 1) * dilation + 1 - size, 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)


def _linear(numbers: Running, held: Mapping[str, Approximate], x: Approximate) -> Computed:
    shape = x.value.shape
    rows = _reshaped(numbers, x, -1, shape[-1])
    weight = held["weight"]
    y = numbers.contract("ri,oi->ro", rows, weight)
    if "bias" in held:
        y = numbers.add(y, held["bias"])

    def pull(dy: Approximate) -> tuple[Approximate, dict[str, Approximate]]:
        flat = _reshaped(numbers, dy, rows.value.shape[0], -1)
        back = {"weight": numbers.contract("ro,ri->oi", flat, rows)}
        if "bias" in held:
            back["bias"] = _reshaped(numbers, numbers.total(flat, (0,)), -1)
        return _reshaped(numbers, numbers.contract("ro,oi->ri", flat, weight), *shape), back

    return Computed(_reshaped(numbers, y, *shape[:-1], -1), pull)


def _conv(
    numbers: Running, layer: Layer, held: Mapping[str, Approximate], x: Approximate
) -> Computed:
    """A cross-correlation; n sample, g group, c in, o out, hw places, ij in the kernel."""
    wanted, each, *kernel = held["weight"].value.shape
    n, channels, *spatial = x.value.shape
    g, sides = layer.groups, sides_of(layer, kernel, spatial)
    if channels != g * each or wanted % g:
        raise ValueError(f"{channels} channels and a kernel of {each} in {g} groups")
    weight = _reshaped(numbers, held["weight"], g, wanted // g, each, *kernel)

    def seen(v: np.ndarray) -> np.ndarray:
        padded = np.pad(v, [(0, 0), (0, 0), *sides])
        return _windows(padded, kernel, layer.stride, layer.dilation).reshape(
            n, g, each, *_places(padded.shape[2:], kernel, layer.stride, layer.dilation), *kernel
        )

    patches = numbers.moved(x, seen)
    y = numbers.contract("ngchwij,gocij->ngohw", patches, weight)
    y = numbers.moved(y, lambda v: v.reshape(n, wanted, *v.shape[3:]))
    if "bias" in held:
        y = numbers.add(y, _reshaped(numbers, held["bias"], -1, 1, 1))

    def pull(dy: Approximate) -> tuple[Approximate, dict[str, Approximate]]:
        grouped = numbers.moved(dy, lambda v: v.reshape(n, g, wanted // g, *v.shape[2:]))
        dw = numbers.contract("ngchwij,ngohw->gocij", patches, grouped)
        back = {"weight": _reshaped(numbers, dw, wanted, each, *kernel)}
        if "bias" in held:
            back["bias"] = _reshaped(numbers, numbers.total(dy, (0, 2, 3)), -1)
        around = numbers.moved(dy, lambda v: _turned_patches(v, layer, kernel, spatial, sides))
        around = numbers.moved(around, lambda v: v.reshape(n, g, wanted // g, *v.shape[2:]))
        turned = numbers.moved(weight, lambda v: v[..., ::-1, ::-1])
        dx = numbers.contract("ngohwij,gocij->ngchw", around, turned)
        return _reshaped(numbers, dx, *x.value.shape), back

    return Computed(y, pull)


def _places(
    padded: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    return tuple(
        (size - (side - 1) * d - 1) // s + 1
        for size, side, s, d in zip(padded, kernel, stride, dilation, strict=True)
    )


def _windows(
    padded: np.ndarray, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> np.ndarray:
    """(n, C, H, W) to (n, C, H', W', i, j)."""
    spans = [(side - 1) * d + 1 for side, d in zip(kernel, dilation, strict=True)]
    if any(size < span for size, span in zip(padded.shape[2:], spans, strict=True)):
        raise ValueError(f"a kernel that spans {spans} and an input of {list(padded.shape[2:])}")
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _turned_patches(
    dy: np.ndarray, layer: Layer, kernel: Sequence[int], spatial: Sequence[int], sides: Sides
) -> np.ndarray:
    """Of every place of the input, the output's cotangents that it took part in."""
    n, c, *places = dy.shape
    spread = np.zeros((n, c, *((p - 1) * s + 1 for p, s in zip(places, layer.stride, strict=True))))
    spread[:, :, :: layer.stride[0], :: layer.stride[1]] = dy
    pads = [(0, 0), (0, 0)]
    for axis, size in enumerate(spatial):
        reach = (kernel[axis] - 1) * layer.dilation[axis]
        before, _ = sides[axis]
        low = reach - before
        pads.append((max(low, 0), max(size + reach - low - spread.shape[2 + axis], 0)))
        spread = spread if low >= 0 else np.take(
            spread, range(-low, spread.shape[2 + axis]), axis=2 + axis
        )  # fmt: skip
    padded = np.pad(spread, pads)
    ends = [size + (k - 1) * d for size, k, d in zip(spatial, kernel, layer.dilation, strict=True)]
    return _windows(padded[:, :, : ends[0], : ends[1]], kernel, (1, 1), layer.dilation)


def _batch_norm(
    numbers: Running,
    dtype: str,
    layer: Layer,
    held: Mapping[str, Approximate],
    x: Approximate,
) -> Computed:
    axes = (0, *range(2, x.value.ndim))
    channels = (-1, *(1 for _ in x.value.shape[2:]))
    count = prod(x.value.shape) // x.value.shape[1]
    shape = tuple(x.value.shape[1] if axis == 1 else 1 for axis in range(1, x.value.ndim))
    done = _norm(numbers, dtype, layer.epsilon, held, x, axes, shape)
    state = {}
    if layer.momentum is not None and "running_var" in held and count > 1:
        mean, variance = _statistics(numbers, x, axes)
        unbiased = numbers.scale(variance, Fraction(count, count - 1))
        for role, now in (("running_mean", mean), ("running_var", unbiased)):
            state[role] = mixed(numbers, held[role], _reshaped(numbers, now, -1), layer.momentum)
    del channels
    return replace(done, state=state)


def mixed(numbers: Running, old: Approximate, now: Approximate, momentum: float) -> Approximate:
    """(1 − m)·old + m·now; a framework that computes old + m·(now − old) rounds no more."""
    share = numbers.multiply(numbers.exactly(np.array(1.0)), numbers.exactly(np.array(momentum)))
    rest = numbers.add(numbers.exactly(np.array(1.0)), negative(numbers, share))
    sum_ = numbers.add(numbers.multiply(rest, old), numbers.multiply(share, now))
    return numbers.add(sum_, numbers.exactly(np.zeros_like(sum_.value)))


def _statistics(
    numbers: Running, x: Approximate, axes: tuple[int, ...]
) -> tuple[Approximate, Approximate]:
    """Mean and biased variance, with the larger of the errors of two passes and of one (X3)."""
    share = Fraction(1, prod(x.value.shape[axis] for axis in axes))

    def mean(v: Approximate) -> Approximate:
        return numbers.scale(numbers.total(v, axes), share)

    first = mean(x)
    centred = numbers.add(x, negative(numbers, first))
    two = mean(numbers.multiply(centred, centred))
    one = numbers.add(
        mean(numbers.multiply(x, x)), negative(numbers, numbers.multiply(first, first))
    )
    return first, Approximate(two.value, np.maximum(two.error, one.error))


def _norm(
    numbers: Running,
    dtype: str,
    epsilon: float,
    held: Mapping[str, Approximate],
    x: Approximate,
    axes: tuple[int, ...],
    affine: tuple[int, ...],
) -> Computed:
    """(x − mean)/√(variance + ε), times γ, plus β, the two of which have the shape `affine`."""
    share = Fraction(1, prod(x.value.shape[axis] for axis in axes))
    one = numbers.exactly(np.array(1.0))

    def mean(v: Approximate) -> Approximate:
        return numbers.scale(numbers.total(v, axes), share)

    average, variance = _statistics(numbers, x, axes)
    rounded_epsilon = numbers.multiply(numbers.exactly(np.array(epsilon)), one)
    root = numbers.rsqrt(numbers.add(variance, rounded_epsilon))
    normal = numbers.multiply(numbers.add(x, negative(numbers, average)), root)
    # x·(γ·root) + (β − mean·γ·root) is as usual: it rounds at the size of its two parts.
    parts = (np.abs(x.value) + np.abs(average.value)) * np.abs(root.value)
    normal = Approximate(normal.value, normal.error + 4 * UNIT_ROUNDOFF[dtype] * parts)
    weight = _reshaped(numbers, held["weight"], *affine) if "weight" in held else one
    y = numbers.multiply(normal, weight)
    if "bias" in held:
        y = numbers.add(y, _reshaped(numbers, held["bias"], *affine))

    def pull(dy: Approximate) -> tuple[Approximate, dict[str, Approximate]]:
        inner = numbers.multiply(dy, weight)
        along = numbers.multiply(normal, mean(numbers.multiply(inner, normal)))
        rest = numbers.add(inner, negative(numbers, numbers.add(mean(inner), along)))
        dx = numbers.multiply(rest, root)
        back = {}
        lost = tuple(
            axis for axis in range(dy.value.ndim)
            if axis < dy.value.ndim - len(affine) or affine[axis - dy.value.ndim] == 1
        )  # fmt: skip
        # Through the variance in one pass a derivative is a difference of two such parts.
        both = np.abs(parts * mean(numbers.multiply(inner, normal)).most * root.value)
        dx = Approximate(dx.value, dx.error + 8 * UNIT_ROUNDOFF[dtype] * both)
        for role, of in (("weight", numbers.multiply(dy, normal)), ("bias", dy)):
            if role in held:
                total = numbers.total(of, lost)
                back[role] = _reshaped(numbers, total, *held[role].value.shape)
        return dx, back

    return Computed(y, pull)


def _group_norm(
    numbers: Running, dtype: str, layer: Layer, held: Mapping[str, Approximate], x: Approximate
) -> Computed:
    n, channels, *spatial = x.value.shape
    each = channels // layer.groups
    grouped = _reshaped(numbers, x, n, layer.groups, each, *spatial)
    affine = (layer.groups, each, *(1 for _ in spatial))
    axes = tuple(range(2, grouped.value.ndim))
    done = _norm(numbers, dtype, layer.epsilon, held, grouped, axes, affine)

    def pull(dy: Approximate) -> tuple[Approximate, dict[str, Approximate]]:
        dx, back = done.pull(_reshaped(numbers, dy, *grouped.value.shape))
        return _reshaped(numbers, dx, *x.value.shape), back

    return Computed(_reshaped(numbers, done.output, *x.value.shape), pull)


def _fixed_norm(
    numbers: Running, layer: Layer, held: Mapping[str, Approximate], x: Approximate
) -> Computed:
    """A batch norm in evaluation: an affine map."""
    shape = (-1, *(1 for _ in x.value.shape[2:]))
    axes = (0, *range(2, x.value.ndim))
    one = numbers.exactly(np.ones(x.value.shape[1]))
    rounded = numbers.multiply(numbers.exactly(np.array(layer.epsilon)), one)
    root = numbers.rsqrt(numbers.add(held["running_var"], rounded))
    scale = numbers.multiply(held.get("weight", one), root)
    moved = numbers.multiply(held["running_mean"], scale)
    # As x·s + (β − mean·s): every other order rounds at these sizes or below.
    y = numbers.multiply(x, _reshaped(numbers, scale, *shape))
    y = numbers.add(y, negative(numbers, _reshaped(numbers, moved, *shape)))
    if "bias" in held:
        y = numbers.add(y, _reshaped(numbers, held["bias"], *shape))
    normal = numbers.multiply(
        numbers.add(x, negative(numbers, _reshaped(numbers, held["running_mean"], *shape))),
        _reshaped(numbers, root, *shape),
    )

    def pull(dy: Approximate) -> tuple[Approximate, dict[str, Approximate]]:
        back = {}
        for role, of in (("weight", numbers.multiply(dy, normal)), ("bias", dy)):
            if role in held:
                back[role] = _reshaped(numbers, numbers.total(of, axes), -1)
        return numbers.multiply(dy, _reshaped(numbers, scale, *shape)), back

    return Computed(y, pull)


def _reshaped(numbers: Running, x: Approximate, *shape: int) -> Approximate:
    return numbers.moved(x, lambda v: v.reshape(shape))
