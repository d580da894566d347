"""Channel shuffle as a Flax Linen module."""

import jax
from flax import linen as nn

import conformance


class ChannelShuffle(nn.Module):
    """Shuffle of the last axis, where Linen has the channels.

    Attributes:
        groups: g, into how many groups the channels are divided.
    """

    groups: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Shuffle x (N, *spatial, C).

        Raises:
            ValueError: if groups is not positive or does not divide C.
        """
        channels = x.shape[-1]
        if self.groups <= 0 or channels % self.groups != 0:
            raise ValueError(f"{channels} channels cannot be divided into {self.groups} groups")
        parts = x.reshape(*x.shape[:-1], self.groups, channels // self.groups)
        return parts.swapaxes(-1, -2).reshape(x.shape)


@conformance.implementation(
    "channel_shuffle", framework="jax", promise="copy", layout="channels_last"
)
def flax_linen(x: jax.Array, groups: int) -> jax.Array:
    """Shuffle channels with a Linen module that holds no variables.

    Source: S15, which is S1 with the channel axis last; Flax has no such module.

    Args:
        x: (N, *spatial, C), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, *spatial, C), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> flax_linen(jax.numpy.arange(6).reshape(1, 1, 6), groups=2).ravel().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    return ChannelShuffle(groups).apply({}, x)
