"""Channel shuffle as a product with a permutation matrix."""

import jax
import jax.numpy as jnp

import conformance


@conformance.implementation("channel_shuffle", framework="jax", promise="arithmetic")
def jax_permutation_matrix(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels by multiplying them with the rows of a permutation matrix.

    Source: S1: row k is one at the input channel of output channel k.

    Args:
        x: (N, C, *spatial), of any dtype that einsum takes; finite.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> jax_permutation_matrix(jax.numpy.arange(6).reshape(1, 6, 1), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = jnp.arange(channels).reshape(groups, -1).T.ravel()
    matrix = jnp.eye(channels, dtype=x.dtype)[order]
    # An accelerator's default precision rounds x before it multiplies.
    return jnp.einsum(
        "kc,nc...->nk...", matrix, x, precision="highest", preferred_element_type=x.dtype
    )
