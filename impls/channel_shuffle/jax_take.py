"""Channel shuffle as a selection of channels by index."""

import jax
import jax.numpy as jnp

import conformance


@conformance.implementation("channel_shuffle", framework="jax", promise="copy")
def jax_take(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels by taking them in their new order.

    Source: S1: the input channel of output channel k is element k of `order`.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> jax_take(jax.numpy.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = jnp.arange(channels).reshape(groups, -1).T.ravel()
    # The default mode fills what lies out of bounds, and so rewrites the NaNs of bfloat16 on a CPU.
    return jnp.take(x, order, axis=1, mode="clip", unique_indices=True)
