"""Shuffle channels by seeing them as (g, C/g) and flattening (C/g, g).

arXiv:1707.01083 (ShuffleNet), section 3.1.
"""

from conformance import implementation


@implementation("channel_shuffle", framework="numpy", promise="copy")
def numpy_reshape(x, groups):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(x.shape[0], groups, channels // groups, *x.shape[2:])
    # reshape alone copies only where it must, and for g = 1 and g = C it need not.
    return parts.swapaxes(1, 2).copy().reshape(x.shape)
