"""Channel shuffle as one XLA dot product with one-hot rows."""

import jax
import jax.numpy as jnp
from jax import lax

import conformance


@conformance.implementation("channel_shuffle", framework="jax", promise="arithmetic")
def jax_one_hot_dot_general(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels by contracting them with one-hot rows.

    Source: S1: row k is one at the input channel of output channel k.

    Args:
        x: (N, C, *spatial), of any dtype that dot_general takes; finite.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> jax_one_hot_dot_general(jax.numpy.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
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
