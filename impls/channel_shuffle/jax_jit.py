"""Channel shuffle, compiled by itself."""

from functools import partial

import jax

import conformance


@conformance.implementation("channel_shuffle", framework="jax", promise="copy")
@partial(jax.jit, static_argnames="groups")
def jax_jit(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels by seeing them as (g, C/g) and flattening (C/g, g), under `jax.jit`.

    Source: arXiv:1707.01083 (ShuffleNet), section 3.1.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> jax_jit(jax.numpy.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(x.shape[0], groups, channels // groups, *x.shape[2:])
    return parts.swapaxes(1, 2).reshape(x.shape)
