"""Shuffle channels by taking one channel of each group in turn.

S1: outputs j·g to j·g + g − 1 are the channels j of the groups.
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.stack.html
"""

import jax.numpy as jnp
from conformance import implementation


@implementation("channel_shuffle", framework="jax", promise="copy")
def jax_split_stack(x, groups):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    return jnp.stack(jnp.split(x, groups, axis=1), axis=2).reshape(x.shape)
