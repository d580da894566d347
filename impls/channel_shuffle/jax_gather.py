"""Channel shuffle as one XLA gather."""

import jax
import jax.numpy as jnp
from jax import lax

import conformance


@conformance.implementation("channel_shuffle", framework="jax", promise="copy")
def jax_gather(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels by gathering slices that are one channel thick.

    Source: S1: the input channel of output channel k is element k of `order`.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> jax_gather(jax.numpy.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = jnp.arange(channels).reshape(groups, -1).T.ravel()
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(0, *range(2, x.ndim)), collapsed_slice_dims=(1,), start_index_map=(1,)
    )
    return lax.gather(
        x,
        order[:, None],
        numbers,
        slice_sizes=(x.shape[0], 1, *x.shape[2:]),
        unique_indices=True,
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
