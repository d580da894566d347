"""The right port to Flax Linen: the same numbers as `torch_block.py`, forward and backward."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """torch's: `momentum` is the new statistics' share, and the running variance is unbiased.

    Flax's own has the share of the old ones for `momentum`, and keeps the biased variance.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        features = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        var = self.variable("batch_stats", "var", jnp.ones, features)
        if not train:
            return (x - mean.value) * jax.lax.rsqrt(var.value + self.epsilon) * scale + bias
        axes = tuple(range(x.ndim - 1))
        count = x.size // x.shape[-1]
        now, spread = jnp.mean(x, axes), jnp.var(x, axes)
        if not self.is_initializing():
            new, unbiased = self.momentum, spread * (count / (count - 1))
            mean.value = (1 - new) * mean.value + new * now
            var.value = (1 - new) * var.value + new * unbiased
        return (x - now) * jax.lax.rsqrt(spread + self.epsilon) * scale + bias


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Channels are the last axis: (…, C) as (…, g, C/g), transposed, flat again."""
    *rest, channels = x.shape
    return x.reshape(*rest, groups, channels // groups).swapaxes(-1, -2).reshape(*rest, channels)


def exact_gelu(x: jax.Array) -> jax.Array:
    """By erf, as torch has it; Flax's default is the tanh approximation."""
    return nn.gelu(x, approximate=False)


def flatten(x: jax.Array) -> jax.Array:
    """Channels first before the axes become one: the next kernel's rows are in torch's order."""
    return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)


class Block(nn.Module):
    """(N, 12, 12, 6) to (N, 4). The fields are what `wrong_ports.py` gets wrong."""

    padding: Any = ((1, 1), (1, 1))
    gelu: Any = staticmethod(exact_gelu)
    flatten: Any = staticmethod(flatten)
    norm: Any = BatchNorm
    hidden: Any = nn.Dense

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        x = nn.Conv(12, (1, 1), feature_group_count=3, use_bias=False, name="expand")(x)
        x = self.gelu(self.norm(name="norm1")(x, train))
        x = channel_shuffle(x, 3)
        x = nn.Conv(12, (3, 3), 2, self.padding, feature_group_count=12, use_bias=False,
                    name="depthwise")(x)  # fmt: skip
        x = self.norm(name="norm2")(x, train)
        x = nn.max_pool(x, (3, 3), (3, 3))
        x = self.gelu(self.hidden(48, name="hidden")(self.flatten(x)))
        return nn.Dense(4, name="head")(x)


def block() -> nn.Module:
    """What `jax:examples/ports/flax_block.py:block` names."""
    return Block()
