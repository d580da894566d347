"""Channel shuffle of channels that lie last."""

import jax

import conformance


@conformance.implementation(
    "channel_shuffle", framework="jax", promise="copy", layout="channels_last"
)
def jax_channels_last(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels by seeing the last axis as (g, C/g) and flattening (C/g, g).

    Source: S15, which is S1 with the channel axis last.

    Args:
        x: (N, *spatial, C), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, *spatial, C), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> jax_channels_last(jax.numpy.arange(6).reshape(1, 1, 6), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[-1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(*x.shape[:-1], groups, channels // groups)
    return parts.swapaxes(-1, -2).reshape(x.shape)
