"""Shuffle channels by multiplying them with the rows of a permutation matrix.

S1: row k is one at the input channel of output channel k. Inputs are finite: 0 · ∞ is NaN.
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.einsum.html
"""

import jax.numpy as jnp
from conformance import implementation


@implementation("channel_shuffle", framework="jax", promise="arithmetic")
def jax_permutation_matrix(x, groups):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = jnp.arange(channels).reshape(groups, -1).T.ravel()
    matrix = jnp.eye(channels, dtype=x.dtype)[order]
    # An accelerator's default precision rounds x before it multiplies.
    return jnp.einsum(
        "kc,nc...->nk...", matrix, x, precision="highest", preferred_element_type=x.dtype
    )
