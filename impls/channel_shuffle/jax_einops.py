"""Channel shuffle as an einops pattern."""

import einops
import jax

import conformance


@conformance.implementation("channel_shuffle", framework="jax", promise="copy")
def jax_einops(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels by writing g and C/g as axes of their own.

    Source: https://einops.rocks, `rearrange`.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> jax_einops(jax.numpy.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    return einops.rearrange(x, "n (g d) ... -> n (d g) ...", g=groups)
