"""The permutation of channels that an answer shows, and its words."""

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.channel_shuffle.definition import permutation as shuffle
from conformance.core.dtypes import bits_of

Move = tuple[str, np.ndarray]
_LISTED = 12  # Channels that a sentence lists.


def channel_permutation(before: np.ndarray, after: np.ndarray) -> tuple[int, ...] | None:
    """Returns the p with `after[:, k] = before[:, p[k]]` for every k, or None.

    Both are (N, C, *spatial). Two equal channels of `before` leave p open: then it is None as well.

    >>> x = np.arange(4).reshape(1, 4, 1)
    >>> channel_permutation(x, x[:, [0, 2, 1, 3]])
    (0, 2, 1, 3)
    """
    if before.shape != after.shape or before.dtype != after.dtype or before.ndim < 2:
        return None
    if before.size == 0:
        return None
    sources = {channel: k for k, channel in enumerate(_channels(before))}
    if len(sources) != before.shape[1]:
        return None
    origins = [sources.get(channel) for channel in _channels(after)]
    if None in origins or len(set(origins)) != len(origins):
        return None
    return tuple(k for k in origins if k is not None)


def _channels(x: np.ndarray) -> list[bytes]:
    bits = np.moveaxis(bits_of(x), 1, 0)
    return [np.ascontiguousarray(channel).tobytes() for channel in bits]


def stays_in_groups(permutation: tuple[int, ...], groups: int) -> bool:
    """Says whether no channel leaves its group, and some channel moves.

    >>> stays_in_groups((1, 0, 2, 3), 2), stays_in_groups((0, 2, 1, 3), 2)
    (True, False)
    """
    size = len(permutation) // groups
    moved = any(source != k for k, source in enumerate(permutation))
    return moved and all(k // size == source // size for k, source in enumerate(permutation))


def channels_in_words(permutation: tuple[int, ...], right: tuple[int, ...]) -> str:
    """Lists the channels of an output by their places in the input, beside those that are right.

    >>> channels_in_words((0, 2, 1, 3), (0, 1, 2, 3))
    "the output's channels are the input's 0 2 1 3, right are 0 1 2 3"
    """
    first = next((k for k in range(len(right)) if permutation[k] != right[k]), 0)
    start = 0 if first < _LISTED else first
    whose = f"the output's channels from {start} on" if start else "the output's channels"
    parts = (_listed(channels[start:]) for channels in (permutation, right))
    return "{} are the input's {}, right are {}".format(whose, *parts)


def _listed(channels: Sequence[int]) -> str:
    more = " …" if len(channels) > _LISTED else ""
    return " ".join(map(str, channels[:_LISTED])) + more


def nearest_permutation(moved: tuple[int, ...], groups: int) -> str:
    """Names the simplest known move that moves channels alike, or returns an empty text.

    Args:
        moved: the p with `out[:, k] = in[:, p[k]]`.
        groups: the g of the question.

    >>> nearest_permutation((0, 2, 4, 6, 1, 3, 5, 7), 2)
    'a shuffle with 4 groups'
    >>> nearest_permutation((0, 4, 1, 5, 2, 7, 3, 6), 2)
    'the right shuffle, but with output channels 5 and 7 exchanged'
    """
    order = np.array(moved)
    right = shuffle(len(moved), groups)
    misplaced = np.flatnonzero(order != right)
    if len(misplaced) == 2:
        first, second = misplaced.tolist()
        return f"the right shuffle, but with output channels {first} and {second} exchanged"
    single = next(
        (words for words, move in _moves(len(moved)) if np.array_equal(move, order)), None
    )
    if single is not None:
        return single
    for words, move in _moves(len(moved)):
        if np.array_equal(right[move], order):
            return f"the right shuffle, and then {words}"
        if np.array_equal(move[right], order):
            return f"{words}, and then the right shuffle"
    return _affine(order)


def _moves(channels: int) -> Iterator[Move]:
    """Yields moves by name, the simpler ones first; each is the p of `out[:, k] = in[:, p[k]]`."""
    order = np.arange(channels)
    divisors = [d for d in range(2, channels) if channels % d == 0]
    yield "nothing: every channel stays", order
    for groups in divisors:
        yield f"a shuffle with {groups} groups", shuffle(channels, groups)
    yield "a flip of all channels", order[::-1]
    for groups in divisors:
        grouped = order.reshape(groups, -1)
        yield f"a flip inside each of {groups} groups", grouped[:, ::-1].reshape(-1)
        yield f"a flip of the order of {groups} groups", grouped[::-1].reshape(-1)
    for by in range(1, channels):
        yield f"a roll of all channels by {by}", np.roll(order, by)
    for groups in divisors:
        grouped = order.reshape(groups, -1)
        for by in range(1, channels // groups):
            yield (
                f"a roll by {by} inside each of {groups} groups",
                np.roll(grouped, by, axis=1).reshape(-1),
            )
        for inner in (d for d in divisors if d < channels // groups):
            if channels // groups % inner == 0:
                yield (
                    f"a shuffle with {inner} groups inside each of {groups} groups",
                    grouped[:, shuffle(channels // groups, inner)].reshape(-1),
                )


def _affine(order: np.ndarray) -> str:
    """Describes channels taken in steps of one length around all of them."""
    channels = len(order)
    if channels < 3:
        return ""
    start, stride = int(order[0]), int(order[1] - order[0]) % channels
    if np.array_equal((start + stride * np.arange(channels)) % channels, order):
        return f"every {stride}th channel from channel {start} on, around the {channels}"
    return ""
