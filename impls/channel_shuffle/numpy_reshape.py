"""Channel shuffle as a reshape, a transpose and a reshape."""

import numpy as np

import conformance


@conformance.implementation("channel_shuffle", framework="numpy", promise="copy")
def numpy_reshape(x: np.ndarray, groups: int) -> np.ndarray:
    """Shuffle channels by seeing them as (g, C/g) and flattening (C/g, g).

    Source: arXiv:1707.01083 (ShuffleNet), section 3.1.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype, in memory of its own.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> numpy_reshape(np.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(x.shape[0], groups, channels // groups, *x.shape[2:])
    # reshape alone copies only where it must, and for g = 1 and g = C it need not.
    return parts.swapaxes(1, 2).copy().reshape(x.shape)
