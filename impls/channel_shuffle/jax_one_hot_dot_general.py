"""Shuffle channels by contracting them with one-hot rows, in one XLA dot product.

S1: row k is one at the input channel of output channel k. Inputs are finite: 0 · ∞ is NaN.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.dot_general.html
"""

import jax
import jax.numpy as jnp
from conformance import implementation
from jax import lax


@implementation("channel_shuffle", framework="jax", promise="arithmetic")
def jax_one_hot_dot_general(x, groups):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = jnp.arange(channels).reshape(groups, -1).T.ravel()
    one_hot = jax.nn.one_hot(order, channels, dtype=x.dtype)
    out = lax.dot_general(
        one_hot,
        x,
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST,  # an accelerator's default rounds x first
        preferred_element_type=x.dtype,
    )
    return jnp.moveaxis(out, 0, 1)  # (C, N, *spatial) as it comes
