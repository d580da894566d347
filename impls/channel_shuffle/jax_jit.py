"""Shuffle channels by reshape, transpose and reshape, compiled by `jax.jit` itself.

The number of groups is static: each is compiled anew.
arXiv:1707.01083 (ShuffleNet), section 3.1.
"""

from functools import partial

import jax
from conformance import implementation


@implementation("channel_shuffle", framework="jax", promise="copy")
@partial(jax.jit, static_argnames="groups")
def jax_jit(x, groups):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(x.shape[0], groups, channels // groups, *x.shape[2:])
    return parts.swapaxes(1, 2).reshape(x.shape)
