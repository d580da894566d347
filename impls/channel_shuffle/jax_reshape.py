"""Shuffle channels by seeing them as (g, C/g) and flattening (C/g, g).

arXiv:1707.01083 (ShuffleNet), section 3.1.
"""

from conformance import implementation


@implementation("channel_shuffle", framework="jax", promise="copy")
def jax_reshape(x, groups):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(x.shape[0], groups, channels // groups, *x.shape[2:])
    return parts.swapaxes(1, 2).reshape(x.shape)
