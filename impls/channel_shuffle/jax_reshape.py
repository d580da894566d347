"""Channel shuffle as a reshape, a transpose and a reshape."""

import jax

import conformance


@conformance.implementation("channel_shuffle", framework="jax", promise="copy")
def jax_reshape(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels by seeing them as (g, C/g) and flattening (C/g, g).

    Source: arXiv:1707.01083 (ShuffleNet), section 3.1.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> jax_reshape(jax.numpy.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(x.shape[0], groups, channels // groups, *x.shape[2:])
    return parts.swapaxes(1, 2).reshape(x.shape)
