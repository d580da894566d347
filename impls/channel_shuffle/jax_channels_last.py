"""Shuffle channels that lie last, by seeing them as (g, C/g) and flattening (C/g, g).

S15: S1 with the channel axis last.
"""

from conformance import implementation


@implementation("channel_shuffle", framework="jax", promise="copy", layout="channels_last")
def jax_channels_last(x, groups):
    channels = x.shape[-1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(*x.shape[:-1], groups, channels // groups)
    return parts.swapaxes(-1, -2).reshape(x.shape)
