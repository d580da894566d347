"""Shuffle channels with a Flax NNX module that holds no state.

Flax has no such module; its channels lie last.
S15: S1 with the channel axis last.
"""

from conformance import implementation
from flax import nnx


class ChannelShuffle(nnx.Module):
    """Shuffle of the last axis, where NNX has the channels."""

    def __init__(self, groups):
        self.groups = groups

    def __call__(self, x):
        """Shuffle x (N, *spatial, C)."""
        channels = x.shape[-1]
        if self.groups <= 0 or channels % self.groups != 0:
            raise ValueError(f"{channels} channels cannot be divided into {self.groups} groups")
        parts = x.reshape(*x.shape[:-1], self.groups, channels // self.groups)
        return parts.swapaxes(-1, -2).reshape(x.shape)


@implementation("channel_shuffle", framework="jax", promise="copy", layout="channels_last")
def flax_nnx(x, groups):
    return ChannelShuffle(groups)(x)
