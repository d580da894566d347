"""Changes of shapes: flattened, split, merged, swapped, shuffled or shifted otherwise."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, permutations
from math import prod
from typing import Any

import torch

from conformance.compare.changes import Option, option
from conformance.compare.torch_called_model import Called, changes


@changes("flatten")
def flattened(call: Called) -> Iterator[Option]:
    """Channels before places, or after them."""
    if call.x.ndim >= 3:
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
    shape = call().shape if call.name == "permute" else ()
    for i, j in combinations(range(len(shape)), 2):
        if shape[i] == shape[j] > 1:
            words = f"axes {i} and {j} of what comes are exchanged"
            yield option("axes-not-swapped", words, lambda i=i, j=j: call().transpose(i, j))


@changes("flip")
def unflipped(call: Called) -> Iterator[Option]:
    """An axis that is not turned round."""
    yield option("sequence-order", "nothing is turned round", call.left_out())


@changes("view", "reshape", "unflatten")
def reshapes(call: Called) -> Iterator[Option]:
    """An axis split as (b, a) where (a, b) is right, or merged so."""
    x, shape = call.x, _shape(call)
    if shape is None:
        return
    if len(shape) == 2 and x.ndim >= 3:
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
    for order in list(permutations(range(parts)))[1:] if 1 not in factors else ():
        split = tuple(factors[i] for i in order)
        other = (*shape[:axis], *split, *shape[axis + parts :])
        back = [*range(axis), *(axis + order.index(i) for i in range(parts)),
                *range(axis + parts, len(shape))]  # fmt: skip
        words = f"axis {axis} is split as {split} where {tuple(factors)} is right"
        name = "reinterpreted-layout" if x.ndim == 2 and parts == 3 else "heads-split"

        def made(other: tuple[int, ...] = other, back: list[int] = back) -> Any:
            return x.reshape(other).permute(back)

        yield option(name, words, made)


def _shape(call: Called) -> list[int] | None:
    """The shape that a reshape is given, without -1."""
    shape = call.args[1:] if len(call.args) > 2 else (*call.args[1:], ())[0]
    shape = (shape,) if isinstance(shape, int) else shape
    is_shape = isinstance(shape, tuple | list | torch.Size)
    if not is_shape or not all(isinstance(s, int) for s in shape):
        return None
    known = prod(s for s in shape if s != -1)
    return [call.x.numel() // max(known, 1) if s == -1 else int(s) for s in shape]
