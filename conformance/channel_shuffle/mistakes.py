"""The known mistakes in channel shuffle, each as a map in the place of the right map."""

from collections.abc import Callable

import ml_dtypes
import numpy as np

from conformance.channel_shuffle.definition import Map, Operator, shuffle, transpose
from conformance.core.dtypes import DTYPES, of_numpy
from conformance.core.mistake import Mistake


def _scattered_back(forward: Map) -> Map:
    """Returns the transpose of a map that only moves or drops elements, by moving indices."""

    def back(cotangent: np.ndarray, groups: int) -> np.ndarray:
        places = forward(np.arange(cotangent.size).reshape(cotangent.shape), groups)
        result = np.zeros_like(cotangent)
        result.reshape(-1)[places.reshape(-1)] = cotangent.reshape(-1)
        return result

    return back


def _moving(forward: Map) -> Operator:
    return Operator(forward, _scattered_back(forward))


def _in_groups(x: np.ndarray, groups: int) -> np.ndarray:
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _inverse_groups(x: np.ndarray, groups: int) -> np.ndarray:
    if x.shape[1] % groups:
        raise ValueError("the reshape refuses")
    return shuffle(x, x.shape[1] // groups)


def _no_transpose(x: np.ndarray, groups: int) -> np.ndarray:
    return _in_groups(x, groups).reshape(x.shape)


def _applied_twice(x: np.ndarray, groups: int) -> np.ndarray:
    return shuffle(shuffle(x, groups), groups)


def _reversed_channels(x: np.ndarray, _groups: int) -> np.ndarray:
    return x[:, ::-1]


def _reversed_in_groups(x: np.ndarray, groups: int) -> np.ndarray:
    return _in_groups(x, groups)[:, :, ::-1].reshape(x.shape)


def _flipped_groups(x: np.ndarray, groups: int) -> np.ndarray:
    return _in_groups(x, groups)[:, ::-1].reshape(x.shape)


def _rolled_by_groups(x: np.ndarray, groups: int) -> np.ndarray:
    return np.roll(x, groups, axis=1)


def _shuffled_within_groups(x: np.ndarray, groups: int) -> np.ndarray:
    # A roll of each group represents any permutation that never leaves a group.
    return np.roll(_in_groups(x, groups), 1, axis=2).reshape(x.shape)


def _shuffled_as_if_moved(x: np.ndarray, groups: int, start: int, end: int) -> np.ndarray:
    """Shuffles axis 1 of data of which one axis stands elsewhere, and moves that axis back."""
    moved = np.moveaxis(x, start, end)
    if moved.shape[1] % groups:
        raise ValueError("the axis that is taken for the channels does not divide into the groups")
    return np.moveaxis(shuffle(moved, groups), end, start)


def _wrong_axis(x: np.ndarray, groups: int) -> np.ndarray:
    # On (N, *spatial, C), channel-first code takes axis 1, which is spatial.
    return _shuffled_as_if_moved(x, groups, 1, -1)


def _last_axis(x: np.ndarray, groups: int) -> np.ndarray:
    # On (N, C, *spatial), channels-last code takes the last axis, which is spatial.
    return _shuffled_as_if_moved(x, groups, -1, 1)


def _reinterpreted(x: np.ndarray, groups: int) -> np.ndarray:
    return shuffle(np.ascontiguousarray(np.moveaxis(x, 1, -1)).reshape(x.shape), groups)


def _batch_folded(x: np.ndarray, groups: int) -> np.ndarray:
    folded = x.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:])
    return shuffle(folded, groups).reshape(x.shape)


def _first_sample_only(x: np.ndarray, groups: int) -> np.ndarray:
    return np.concatenate([shuffle(x[:1], groups), x[1:]])


def _nothing(x: np.ndarray, _groups: int) -> np.ndarray:
    return np.zeros_like(x)


def flushed(x: np.ndarray) -> np.ndarray:
    """Sets −0.0 and subnormals to 0, and every NaN to the canonical NaN."""
    copy = np.ascontiguousarray(x).copy()
    if copy.dtype.kind not in "fcV":
        return copy
    parts = copy.view(copy.real.dtype) if copy.dtype.kind == "c" else copy
    with np.errstate(all="ignore"):
        parts[np.abs(parts.astype(np.float64)) < _least_normal(parts.dtype)] = 0.0
        parts[np.isnan(parts)] = np.nan
    return copy


def _least_normal(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).smallest_normal)


_NARROWER = {
    "f64": "f32",
    "f32": "bf16",
    "f16": "f8e4m3fn",
    "bf16": "f8e4m3fn",
    "c128": "c64",
    "i64": "i32",
    "i32": "i16",
    "i16": "i8",
    "u32": "u16",
    "u16": "u8",
}


def _narrowed(x: np.ndarray) -> np.ndarray:
    narrower = _NARROWER.get(of_numpy(x.dtype).name)
    if narrower is None:
        return x
    with np.errstate(all="ignore"):
        return x.astype(DTYPES[narrower].carrier).astype(x.dtype)


def _floored(x: np.ndarray, groups: int) -> np.ndarray:
    """Shuffles rightly where g | C; else shuffles g·⌊C/g⌋ channels and leaves the rest alone."""
    whole = x.shape[1] - x.shape[1] % groups
    return np.concatenate([shuffle(x[:, :whole], groups), x[:, whole:]], axis=1)


def _changing(change: Callable[[np.ndarray], np.ndarray]) -> Operator:
    """Returns the right permutation of changed values, forward and back."""
    return Operator(
        lambda x, groups: shuffle(change(x), groups),
        lambda cotangent, groups: transpose(change(cotangent), groups),
    )


def _mistake(
    name: str, done: str, advice: str, code: Operator | Callable[..., np.ndarray], seen: str = ""
) -> Mistake[Operator]:
    operator = code if isinstance(code, Operator) else _moving(code)
    return Mistake(name, "channel_shuffle", done, advice, operator, seen)


MISTAKES: tuple[Mistake[Operator], ...] = (
    _mistake(
        "inverse-groups",
        "shuffled with C/g groups where g were asked for",
        "View the channels as (g, C/g), then swap the two axes: "
        "reshape(N, g, C//g, …).swapaxes(1, 2). "
        "(C//g, g) is the inverse; torch's docstring writes it, torch's code does not.",
        _inverse_groups,
        "megvii-model/ShuffleNet-Series#17, tensorpack/tensorpack#1029",
    ),
    _mistake(
        "no-transpose",
        "split into groups and joined again: nothing moved",
        "Swap the group axis and the channel axis between the two reshapes.",
        _no_transpose,
    ),
    _mistake(
        "applied-twice",
        "shuffled twice",
        "Shuffle once: look for a shuffle both in the block and in the code that calls it.",
        _applied_twice,
    ),
    _mistake(
        "reversed-channels",
        "the channels in reverse order",
        "A shuffle interleaves; a flip along axis 1 does not.",
        _reversed_channels,
    ),
    _mistake(
        "reversed-in-groups",
        "the channels reversed inside each group",
        "Swap the two axes of (g, C/g) instead of flipping the second.",
        _reversed_in_groups,
    ),
    _mistake(
        "flipped-groups",
        "the groups in reverse order, each as it was",
        "Swap the two axes of (g, C/g) instead of flipping the first.",
        _flipped_groups,
    ),
    _mistake(
        "rolled-by-groups",
        "the channels rolled by g",
        "A stride of C/g through the channels is meant, not a shift by g.",
        _rolled_by_groups,
    ),
    _mistake(
        "shuffled-within-groups",
        "no channel left its group",
        "Neighbours in the output come from different groups: interleave across groups.",
        _shuffled_within_groups,
        "the article's first sentence on ChannelShuffle says it so",
    ),
    _mistake(
        "wrong-axis-channels-last",
        "channel-first code on channels-last data: axis 1 was a spatial one",
        "On (N, *spatial, C) reshape the last axis to (g, C/g) and swap those two.",
        _wrong_axis,
    ),
    _mistake(
        "wrong-axis-channels-first",
        "channels-last code on channel-first data: the last axis was a spatial one",
        "On (N, C, *spatial) reshape axis 1 to (g, C/g) and swap those two; or, if the code is for "
        '(N, *spatial, C), declare layout="channels_last".',
        _last_axis,
    ),
    _mistake(
        "reinterpreted-layout",
        "a channels-last buffer read as if it were channel-first",
        "Permute the axes (and copy) where the layout changes; a reshape only renames the bytes.",
        _reinterpreted,
    ),
    _mistake(
        "batch-folded",
        "the batch folded into the groups: samples were mixed",
        "Keep N as an axis of its own in the reshape: (N, g, C/g, …), not (g, N·C/g, …).",
        _batch_folded,
    ),
    _mistake(
        "first-sample-only",
        "only sample 0 was shuffled",
        "Index with x[:, permutation], not with x[0].",
        _first_sample_only,
    ),
    _mistake(
        "forward-permutation-in-backward",
        "the gradient was shuffled with g, not with C/g",
        "The backward of a shuffle with g groups is the shuffle with C/g groups.",
        Operator(shuffle, shuffle, twice=transpose),
    ),
    _mistake(
        "gradient-stopped",
        "the output is right, and no gradient comes through",
        "Remove the detach, the no_grad, the stop_gradient or the way through NumPy that the "
        "original does not have.",
        Operator(shuffle, _nothing, twice=_nothing, tangent=_nothing),
    ),
    _mistake(
        "aliased-or-mutated",
        "the output shares memory with the input, or the input was changed",
        "Copy also where g is 1 or C: view, reshape and .contiguous() give back the input there.",
        Operator(shuffle, transpose, aliases=True),
    ),
    _mistake(
        "value-changing-copy",
        "−0.0, a NaN's payload or a subnormal was lost on the way",
        "Move the elements, do not compute with them; look for +0, ×1, flush-to-zero, or a cast.",
        _changing(flushed),
    ),
    _mistake(
        "indivisible-accepted",
        "C mod g ≠ 0 was floored, padded or left alone in silence",
        "Raise an error where C mod g ≠ 0 and where g ≤ 0.",
        _floored,
    ),
    _mistake(
        "narrow-round-trip",
        "cast to a narrower dtype, or through one and back",
        "Keep the dtype of the input; in JAX, float64 needs jax_enable_x64.",
        _changing(_narrowed),
    ),
)
