"""Channel shuffle as a stack of the groups."""

import jax
import jax.numpy as jnp

import conformance


@conformance.implementation("channel_shuffle", framework="jax", promise="copy")
def jax_split_stack(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels by taking one channel of each group in turn.

    Source: S1: outputs j·g to j·g + g − 1 are the channels j of the groups.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> jax_split_stack(jax.numpy.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    return jnp.stack(jnp.split(x, groups, axis=1), axis=2).reshape(x.shape)
