"""What kinds of operation do to errors, whatever framework's operation it is."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from conformance.arithmetic.running import Approximate
from conformance.compare.rules import Rules

Array: TypeAlias = np.ndarray


class Carried(Protocol):
    """What a run notes: comparisons that are unsure, and bounds that nothing reaches."""

    rules: Rules
    unsure: Counter[str]
    idle: int


@dataclass(frozen=True)
class Operation:
    """One operation of a run.

    Attributes:
        xs: its arguments with their errors.
        f: what it is, as a function of arrays.
        value: what came.
    """

    carry: Carried
    name: str
    xs: Sequence[Approximate]
    f: Callable[..., Array]
    value: Array

    @property
    def is_sure(self) -> bool:
        """Whether no argument has an error."""
        return not any(np.any(x.error) for x in self.xs)

    @property
    def is_discrete(self) -> bool:
        """Whether what came is no float."""
        return self.value.dtype.kind not in "fc"


Kind: TypeAlias = Callable[[Operation], Approximate | None]


def _added(o: Operation) -> Approximate:
    a, b = o.xs
    if o.is_discrete:
        return Approximate(o.value, a.error + b.error)
    return o.carry.rules.added(a, b, o.value)


def _multiplied(o: Operation) -> Approximate:
    a, b = o.xs
    return discrete(o) if o.is_discrete else o.carry.rules.multiplied(a, b, o.value)


def _power(o: Operation) -> Approximate:
    """By a constant, else e^(b·log a) for positive a."""
    (base, exponent), rules = o.xs, o.carry.rules
    if exponent.value.size == 1 and not exponent.error.any():
        return rules.power(base, float(exponent.value.reshape(-1)[0]), o.value)
    with np.errstate(all="ignore"):
        log = rules.monotone(np.log, base)
        inner = rules.multiplied(log, exponent, log.value * exponent.value)
        return rules.monotone(np.exp, inner, o.value)


def _monotone(o: Operation) -> Approximate | None:
    """Functions of a library that only rise or only fall; of complex numbers exp alone."""
    (x,), rules = o.xs, o.carry.rules
    if o.value.dtype.kind != "c":
        return rules.monotone(o.f, x, o.value)
    if o.name != "exp":
        return None
    size = rules.monotone(np.exp, Approximate(x.value.real, x.error))
    return rules.turned(size, Approximate(x.value.imag, x.error), o.value)


def stepped(o: Operation) -> Approximate:
    """Roundings to integers, and signs."""
    (x,) = o.xs
    if o.is_sure:
        return o.carry.rules.exactly(o.value)
    with np.errstate(all="ignore"):
        ends = (o.f(x.value + sign * x.error).astype(float) for sign in (-1, 1))
        off = np.maximum(*(np.abs(end - o.value) for end in ends))
    if off.any():
        o.carry.unsure["a rounding to integers"] += int((off > 0).sum())
    return o.carry.rules.closed(o.value, off)


def _compared(o: Operation) -> Approximate:
    a, b = o.xs
    result = o.carry.rules.compared(o.name, a, b, o.value)
    if result.error.any():
        o.carry.unsure[f"a comparison ({o.name})"] += int(result.error.sum())
    return result


def discrete(o: Operation) -> Approximate:
    """Logic, and other operations on bits: unsure where an argument is."""
    if o.is_sure:
        return o.carry.rules.exactly(o.value)
    if o.value.dtype != bool:
        return o.carry.rules.unknown(o.value)
    unsure = sum(np.asarray(x.error) for x in o.xs) > 0
    return Approximate(o.value, np.broadcast_to(unsure, o.value.shape) * 1.0)


def _extreme(o: Operation) -> Approximate:
    """The larger or the smaller of two."""
    a, b = o.xs
    if o.value.dtype.kind == "f" and o.value.size > 1 == b.value.size and not b.error.any():
        o.carry.idle += o.carry.rules.is_idle(lambda v: o.f(v, b.value.reshape(-1)), a.value)
    return o.carry.rules.largest(o.f, a, b, value=o.value)


def clipped(o: Operation) -> Approximate:
    """What is clipped comes first, then the bounds that are arrays, which `f` has already."""
    x, *bounds = o.xs
    if any(bound.error.any() for bound in bounds):
        error = x.error + sum(np.asarray(bound.error) for bound in bounds)
        return o.carry.rules.lipschitz(Approximate(x.value, error), o.value)
    if o.is_discrete:
        return Approximate(o.value, x.error)
    o.carry.idle += o.value.size > 0 and o.carry.rules.is_idle(o.f, x.value)
    return o.carry.rules.clipped(o.f, x, o.value)


KINDS: dict[str, Kind] = {
    "added": _added,
    "multiplied": _multiplied,
    "power": _power,
    "monotone": _monotone,
    "wave": lambda o: o.carry.rules.wave(o.xs[0], o.value),
    "size": lambda o: o.carry.rules.size(o.xs[0], o.value),
    "stepped": stepped,
    "compared": _compared,
    "discrete": discrete,
    "extreme": _extreme,
    "largest": lambda o: o.carry.rules.largest(o.f, *o.xs, value=o.value),
}


def place_of_largest(carry: Carried, name: str, x: Approximate, axis: int) -> tuple[Array, Array]:
    """Where the largest lies along an axis, or the smallest, and whether that is unsure.

    What has its bits is taken for the same number: the first of them is it.
    """
    value = -x.value if name.endswith("min") else x.value
    best = np.expand_dims(value.argmax(axis), axis)
    most, own = (np.take_along_axis(array, best, axis) for array in (value, x.error))
    same = (value == most) & (x.error == own)
    unsure = ((value + x.error >= most - own) & ~same).any(axis)
    if unsure.any():
        carry.unsure[f"the order at a maximum ({name})"] += int(unsure.sum())
    return best.squeeze(axis), unsure * 1.0


def windows(
    x: Approximate, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[tuple[int, int]],
    dilation: Sequence[int] = (),
) -> Approximate:  # fmt: skip
    """All windows of a pool over the last axes, each along an axis of its own at the end."""
    n, dilation = len(kernel), dilation or [1] * len(kernel)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    index: tuple[Any, ...] = (..., *(slice(None, None, step) for step in (*stride, *dilation)))

    def seen(array: Array, fill: float) -> Array:
        ahead = array.ndim - n
        padded = np.pad(array, [(0, 0)] * ahead + list(pads), constant_values=fill)
        axes = tuple(range(ahead, array.ndim))
        found = sliding_window_view(padded, spans, axis=axes)[index]
        return found.reshape(*found.shape[:-n], -1)

    return Approximate(seen(x.value, -np.inf), seen(x.error, 0.0))


def is_order_unsure(carry: Carried, x: Approximate, axis: int, most: int | None = None) -> bool:
    """Whether two neighbours of a sort, or of its first so many and the next, may change places."""
    furthest = x.error.max(initial=0.0)
    ordered = np.sort(x.value.astype(float), axis)
    if most is not None:
        ordered = np.flip(ordered, axis).take(range(min(most + 1, ordered.shape[axis])), axis)
    is_unsure = furthest > 0 and bool((np.abs(np.diff(ordered, axis=axis)) <= 2 * furthest).any())
    if is_unsure:
        carry.unsure["the order of a sort"] += 1
    return is_unsure
