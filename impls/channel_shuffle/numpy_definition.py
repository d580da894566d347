"""Channel shuffle as it is defined, channel by channel."""

import numpy as np

import conformance


@conformance.implementation("channel_shuffle", framework="numpy", promise="copy")
def numpy_definition(x: np.ndarray, groups: int) -> np.ndarray:
    """Shuffle channels by copying each from where the definition says.

    Source: S1: out[:, k] = x[:, (k mod g)·(C/g) + ⌊k/g⌋].

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype, in memory of its own.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> numpy_definition(np.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    out = np.empty_like(x)
    for k in range(channels):
        out[:, k] = x[:, (k % groups) * (channels // groups) + k // groups]
    return out
