"""What code between layers does, one function at a time: forward, backward, and errors of both.

x·f(x) with f in [0, 1] and its derivatives are charged `_ROUNDINGS` roundings at the size of x, of
1, or of both: the argument's, the function's four and those of the products around it (Higham,
chapter 3); an error that came in is multiplied by the largest slope.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import erf, pi, prod, sqrt
from typing import Literal

import numpy as np

from conformance.arithmetic.running import UNIT_ROUNDOFF, Approximate, Running
from conformance.channel_shuffle.definition import permutation

_ROUNDINGS = 16
Pull = Callable[[Approximate], tuple[Approximate, ...]]
Shapes = tuple[tuple[int, ...], ...]
Family = Literal["pointwise", "shuffle", "flatten", "pool", "mean", "part", "join"]


@dataclass(frozen=True)
class Function:
    """A function of one array or two, channels at axis 1.

    Attributes:
        name: as it is told, with what it was given.
        family: what it can be mistaken within.
        apply: from a precision and the arguments to the result and its pullback.
        settings: what tells it from others of its family.
    """

    name: str
    family: Family
    apply: Callable[..., tuple[Approximate, Pull]]
    settings: tuple[object, ...] = ()

    def __call__(self, dtype: str, *xs: Approximate) -> tuple[Approximate, Pull]:
        """The result, and its pullback."""
        return self.apply(dtype, *xs)


def _phi(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.vectorize(erf, otypes=[float])(x / sqrt(2)))


def _gelu_erf_slope(x: np.ndarray) -> np.ndarray:
    return _phi(x) + x * np.exp(-x * x / 2) / sqrt(2 * pi)


_C, _K = sqrt(2 / pi), 0.044715


def _tanh_part(x: np.ndarray) -> np.ndarray:
    return np.tanh(_C * (x + _K * x**3))


def _gelu_tanh_slope(x: np.ndarray) -> np.ndarray:
    t = _tanh_part(x)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * _C * (1 + 3 * _K * x * x)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


@dataclass(frozen=True)
class _Curve:
    """A function, its derivative, the largest of it and of the second one, and where it bends."""

    value: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    steepest: float = 1.0
    bend: float = 0.0
    kinks: tuple[float, ...] = ()


_CURVES = {
    "relu": _Curve(lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float), kinks=(0.0,)),
    "gelu (erf)": _Curve(lambda x: x * _phi(x), _gelu_erf_slope, 1.13, 0.8),
    "gelu (tanh)": _Curve(lambda x: 0.5 * x * (1 + _tanh_part(x)), _gelu_tanh_slope, 1.13, 0.8),
    "silu": _Curve(
        lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))), 1.1, 0.5
    ),
    "tanh": _Curve(np.tanh, lambda x: 1 - np.tanh(x) ** 2, 1.0, 0.77),
    "sigmoid": _Curve(_sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x)), 0.25, 0.1),
    "relu6": _Curve(
        lambda x: np.clip(x, 0, 6), lambda x: ((x > 0) & (x < 6)).astype(float), kinks=(0.0, 6.0)
    ),
    "leaky relu (0.01)": _Curve(
        lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01), kinks=(0.0,)
    ),
}


def _pointwise(name: str) -> Function:
    curve = _CURVES[name]

    def apply(dtype: str, x: Approximate) -> tuple[Approximate, Pull]:
        u = UNIT_ROUNDOFF[dtype]
        least = 1 if name in ("tanh", "sigmoid") else 0
        # One product at most where the function is made of straight lines.
        roundings = _ROUNDINGS if curve.bend else 2 * name.startswith("leaky")
        size = roundings * u * np.maximum(np.abs(x.value), least)
        y = Approximate(curve.value(x.value), curve.steepest * x.error + size)

        def pull(dy: Approximate) -> tuple[Approximate, ...]:
            jump = np.zeros(x.value.shape)
            for kink in curve.kinks:  # what the slope is there, is a framework's to say
                jump += np.abs(x.value - kink) <= x.error
            own = _ROUNDINGS * u * (1 + np.abs(x.value)) if curve.bend else u
            slope = Approximate(curve.slope(x.value), curve.bend * x.error + own + jump)
            return (Running(dtype).multiply(dy, slope),)

        return y, pull

    return Function(name, "pointwise", apply)


POINTWISE = tuple(map(_pointwise, _CURVES))


def _structural(
    name: str, family: Family, how: Callable[[np.ndarray], np.ndarray], *settings: object
) -> Function:
    """Elements moved, or left out; backwards they go where they came from."""

    def apply(dtype: str, x: Approximate) -> tuple[Approximate, Pull]:
        numbers = Running(dtype)
        shape = x.value.shape
        places = how(np.arange(prod(shape)).reshape(shape))

        def back(v: np.ndarray) -> np.ndarray:
            whole = np.zeros(prod(shape))
            whole[places.reshape(-1)] = v.reshape(-1)
            return whole.reshape(shape)

        return numbers.moved(x, how), lambda dy: (numbers.moved(dy, back),)

    return Function(name, family, apply, settings)


FLATTEN = _structural("flatten", "flatten", lambda v: v.reshape(v.shape[0], -1))
FLATTEN_CHANNELS_LAST = _structural(
    "flatten of channels last", "flatten", lambda v: np.moveaxis(v, 1, -1).reshape(v.shape[0], -1)
)
IDENTITY = _structural("nothing", "shuffle", lambda v: v)


def shuffle(groups: int, axis: int = 1) -> Function:
    """A channel shuffle with so many groups, or one of another axis."""
    along = "" if axis == 1 else f" along axis {axis}"
    return _structural(
        f"channel shuffle of {groups} groups{along}",
        "shuffle",
        lambda v: np.take(v, permutation(v.shape[axis], groups), axis=axis),
        groups,
        axis,
    )


def part(index: int, of: int) -> Function:
    """One of equal parts of the channels."""
    return _structural(
        f"part {index + 1} of {of} of the channels",
        "part",
        lambda v: np.split(v, of, axis=1)[index],
        index,
        of,
    )


def pool(
    kind: str, side: int, stride: int, pads: tuple[int, int] = (0, 0), *, counted: bool = True
) -> Function:
    """The largest or the mean of windows; whether padding counts is a mean's to say."""

    def cut(v: np.ndarray, fill: float) -> np.ndarray:
        padded = np.pad(v, [(0, 0), (0, 0), pads, pads], constant_values=fill)
        seen = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
        return seen[:, :, ::stride, ::stride].reshape(
            *v.shape[:2], *seen[:1, :1, ::stride, ::stride].shape[2:4], side * side
        )

    def apply(dtype: str, x: Approximate) -> tuple[Approximate, Pull]:
        numbers = Running(dtype)
        shape = x.value.shape
        places = cut(np.arange(prod(shape), dtype=float).reshape(shape), -1).astype(int)
        inside = places >= 0
        value, error = cut(x.value, -np.inf), cut(x.error, 0)
        if kind == "max":
            y = Approximate(value.max(-1), error.max(-1))
            low = (value - error).max(-1, keepdims=True)
            may_be = value + error >= low
            first = np.eye(side * side)[value.argmax(-1)]
            share, doubt = first, np.where(may_be.sum(-1, keepdims=True) > 1, may_be, 0.0)
        else:
            count = inside.sum(-1, keepdims=True) if not counted else side * side
            share, doubt = inside / count, np.zeros(inside.shape)
            u = UNIT_ROUNDOFF[dtype] * (side * side + 4)
            part_of = np.where(inside, value, 0) * share
            y = Approximate(part_of.sum(-1), (error * share).sum(-1) + u * np.abs(part_of).sum(-1))

        def pull(dy: Approximate) -> tuple[Approximate, ...]:
            total, most, carried = (np.zeros(prod(shape)) for _ in range(3))
            index = places[inside]
            for into, of in (
                (total, dy.value[..., None] * share),
                (most, np.abs(dy.value)[..., None] * share),
                (carried, dy.error[..., None] * share + np.abs(dy.value)[..., None] * doubt),
            ):
                np.add.at(into, index, of[inside])
            rounded = UNIT_ROUNDOFF[dtype] * (side * side + 4) * most
            back = Approximate(total.reshape(shape), (carried + rounded).reshape(shape))
            return (numbers.moved(back, lambda v: v),)

        return y, pull

    words = f"{kind} pool of {side} by {side}, stride {stride}"
    words += f", padding {pads[0]} before and {pads[1]} after" if any(pads) else ""
    words += "" if counted or kind == "max" else ", padding not counted"
    return Function(words, "pool", apply, (kind, side, stride, pads, counted))


def _mean_of_places(*, keeps: bool) -> Function:
    def apply(dtype: str, x: Approximate) -> tuple[Approximate, Pull]:
        numbers = Running(dtype)
        axes, shape = tuple(range(2, x.value.ndim)), x.value.shape
        share = Fraction(1, prod(shape[2:]))
        y = numbers.scale(numbers.total(x, axes), share)
        if not keeps:
            y = numbers.moved(y, lambda v: v.reshape(shape[:2]))

        def pull(dy: Approximate) -> tuple[Approximate, ...]:
            wide = numbers.moved(
                dy, lambda v: np.broadcast_to(v.reshape(*shape[:2], *(1 for _ in axes)), shape)
            )
            return (numbers.scale(wide, share),)

        return y, pull

    return Function("mean over places", "mean", apply, ("mean", keeps))


def _add(dtype: str, a: Approximate, b: Approximate) -> tuple[Approximate, Pull]:
    return Running(dtype).add(a, b), lambda dy: (dy, dy)


def _concatenated(_: str, a: Approximate, b: Approximate) -> tuple[Approximate, Pull]:
    here = a.value.shape[1]
    joined = Approximate(
        np.concatenate([a.value, b.value], 1), np.concatenate([a.error, b.error], 1)
    )

    def pull(dy: Approximate) -> tuple[Approximate, ...]:
        return (
            Approximate(dy.value[:, :here], dy.error[:, :here]),
            Approximate(dy.value[:, here:], dy.error[:, here:]),
        )

    return joined, pull


ADD = Function("sum", "join", _add)
CONCATENATE = Function("concatenation", "join", _concatenated)


def pools(shape: tuple[int, ...], kind: str) -> list[Function]:
    """Windows of 2 and 3 that fit, with explicit padding and with XLA's SAME."""
    found = []
    for side in (2, 3):
        for stride in (side, 2, 1):
            total = max((-(-shape[2] // stride) - 1) * stride + side - shape[2], 0)
            same = (total // 2, total - total // 2)
            for pads in dict.fromkeys([(0, 0), (1, 1), same]):
                if min(shape[2:]) + sum(pads) >= side and max(pads) < side:
                    found.append(pool(kind, side, stride, pads))
                    if kind == "avg" and any(pads):
                        found.append(pool(kind, side, stride, pads, counted=False))
    return list({one.settings: one for one in found}.values())


@cache
def candidates(shape: tuple[int, ...]) -> Sequence[Function]:
    """Functions of one array of this shape, simple ones first."""
    found = list(POINTWISE)
    if len(shape) < 3:
        return found
    channels = shape[1]
    found += [shuffle(g) for g in range(2, channels) if channels % g == 0]
    if len(shape) == 4:
        found += [_mean_of_places(keeps=False), _mean_of_places(keeps=True)]
        found += [*pools(shape, "max"), *pools(shape, "avg")]
    found += [FLATTEN, FLATTEN_CHANNELS_LAST]
    if channels % 2 == 0:
        found += [part(0, 2), part(1, 2)]
    return found
