"""Shuffle channels by writing g and C/g as axes of their own, with einops.

https://einops.rocks, `rearrange`
"""

import einops
from conformance import implementation


@implementation("channel_shuffle", framework="jax", promise="copy")
def jax_einops(x, groups):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    return einops.rearrange(x, "n (g d) ... -> n (d g) ...", g=groups)
