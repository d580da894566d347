"""Reading a permutation of channels off an answer, and saying it in words."""

import numpy as np

from conformance.core.dtypes import bits_of


def channel_permutation(before: np.ndarray, after: np.ndarray) -> tuple[int, ...] | None:
    """The p with `after[:, k] = before[:, p[k]]` for every k; None where there is no one such p.

    Both are (N, C, *spatial). None too where two channels of `before` are alike.

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
    read = [sources.get(channel) for channel in _channels(after)]
    if None in read or len(set(read)) != len(read):
        return None
    return tuple(k for k in read if k is not None)


def _channels(x: np.ndarray) -> list[bytes]:
    bits = np.moveaxis(bits_of(x), 1, 0)
    return [np.ascontiguousarray(channel).tobytes() for channel in bits]


def stays_in_groups(permutation: tuple[int, ...], groups: int) -> bool:
    """Whether no channel leaves its group, and some channel moves.

    >>> stays_in_groups((1, 0, 2, 3), 2), stays_in_groups((0, 2, 1, 3), 2)
    (True, False)
    """
    size = len(permutation) // groups
    moved = any(source != k for k, source in enumerate(permutation))
    return moved and all(k // size == source // size for k, source in enumerate(permutation))


def cycles(permutation: tuple[int, ...]) -> str:
    """Cycle notation; fixed points are left out, and the identity is ().

    >>> cycles((0, 2, 1, 3))
    '(1 2)'
    """
    seen: set[int] = set()
    written = []
    for start in range(len(permutation)):
        cycle, k = [], start
        while k not in seen:
            seen.add(k)
            cycle.append(str(k))
            k = permutation[k]
        if len(cycle) > 1:
            written.append(f"({' '.join(cycle)})")
    return "".join(written) or "()"
