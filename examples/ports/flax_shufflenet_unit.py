"""Right: `unit`, but for Flax's biased running variance. Wrong: every other function, in one thing.

    conformance compare torch:examples/ports/torch_shufflenet_unit.py:unit \\
        jax:examples/ports/flax_shufflenet_unit.py:unit --input 2,12,6,6 \\
        --allow biased-running-variance
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Channels are the last axis."""
    *rest, c = x.shape
    return x.reshape(*rest, groups, c // groups).swapaxes(-1, -2).reshape(x.shape)


def inverse(x: jax.Array, groups: int) -> jax.Array:
    """The shuffle that takes it back: C/g groups."""
    return channel_shuffle(x, x.shape[-1] // groups)


class Unit(nn.Module):
    """(N, H, W, 12) to the same. The fields are what ports get wrong."""

    shuffle: Any = staticmethod(channel_shuffle)
    last: Any = staticmethod(nn.relu)
    swapped: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
        kept, y = jnp.split(x, 2, axis=-1)
        y = nn.relu(norm()(nn.Conv(6, (1, 1), use_bias=False)(y)))
        y = nn.Conv(6, (3, 3), padding=1, feature_group_count=6, use_bias=False)(y)
        y = nn.Conv(6, (1, 1), use_bias=False)(norm()(y))
        y = self.last(norm()(y))
        parts = (y, kept) if self.swapped else (kept, y)
        return self.shuffle(jnp.concatenate(parts, axis=-1), 2)


def unit() -> nn.Module:
    """Right."""
    return Unit()


def inverse_groups() -> nn.Module:
    """Shuffles with C/g groups."""
    return Unit(shuffle=inverse)


def concatenation_order() -> nn.Module:
    """Joins the halves the other way round."""
    return Unit(swapped=True)


def activation() -> nn.Module:
    """Has no ReLU at the end of the branch."""
    return Unit(last=lambda x: x)
