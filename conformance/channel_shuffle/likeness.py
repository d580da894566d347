"""What code that moves channels so seems to do: the simplest known move that moves them alike."""

from collections.abc import Iterator

import numpy as np

from conformance.channel_shuffle.definition import permutation as shuffle

Move = tuple[str, np.ndarray]


def likeness(moved: tuple[int, ...], groups: int) -> str:
    """The move in words, empty where no simple one is like it.

    Args:
        moved: the p with `out[:, k] = in[:, p[k]]`.
        groups: g, which was asked for.

    >>> likeness((0, 2, 4, 6, 1, 3, 5, 7), 2)
    'a shuffle with 4 groups'
    >>> likeness((0, 4, 1, 5, 2, 7, 3, 6), 2)
    'the right shuffle, but with output channels 5 and 7 exchanged'
    """
    given = np.array(moved)
    right = shuffle(len(moved), groups)
    away = np.flatnonzero(given != right)
    if len(away) == 2:
        first, second = away.tolist()
        return f"the right shuffle, but with output channels {first} and {second} exchanged"
    alone = next((words for words, move in _moves(len(moved)) if np.array_equal(move, given)), None)
    if alone is not None:
        return alone
    for words, move in _moves(len(moved)):
        if np.array_equal(right[move], given):
            return f"the right shuffle, and then {words}"
        if np.array_equal(move[right], given):
            return f"{words}, and then the right shuffle"
    return _affine(given)


def _moves(channels: int) -> Iterator[Move]:
    """Moves by name, the simpler ones first; each is the p of `out[:, k] = in[:, p[k]]`."""
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


def _affine(given: np.ndarray) -> str:
    """Steps of one length around the channels."""
    channels = len(given)
    if channels < 3:
        return ""
    start, stride = int(given[0]), int(given[1] - given[0]) % channels
    if np.array_equal((start + stride * np.arange(channels)) % channels, given):
        return f"every {stride}th channel from channel {start} on, around the {channels}"
    return ""
