"""Ports of `torch_block.py` that are wrong in one thing each, as ports are.

What `conformance compare` says of each is which layer parts from the original, and what was done:

    conformance compare torch:examples/ports/torch_block.py:block \\
        jax:examples/ports/wrong_ports.py:same_padding --input 4,6,12,12
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax_block import BatchNorm, Block


def same_padding() -> nn.Module:
    """Padding 1 written as SAME: at stride 2 an even side is padded after it alone."""
    return Block(padding="SAME")


def tanh_gelu() -> nn.Module:
    """Flax's default gelu is the tanh approximation."""
    return Block(gelu=nn.gelu)


def keras_epsilon() -> nn.Module:
    """The epsilon that Keras has where nothing is said."""
    return Block(norm=partial(BatchNorm, epsilon=1e-3))


def swapped_momentum() -> nn.Module:
    """0.9 is Flax's word for torch's 0.1; a norm that has torch's meaning was given it."""
    return Block(norm=partial(BatchNorm, momentum=0.9))


class TransposedDense(nn.Module):
    """A kernel held (in, out), as Flax has it, and multiplied as torch has it."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.normal(), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return jnp.einsum("ni,oi->no", x, kernel) + bias


def kernel_not_transposed() -> nn.Module:
    """Square, so that no shape tells."""
    return Block(hidden=TransposedDense)


def flattened_channels_last() -> nn.Module:
    """(H, W, C) flattened as it lies, before a kernel whose rows are in the order (C, H, W)."""
    return Block(flatten=lambda x: x.reshape(x.shape[0], -1))


def half_precision() -> nn.Module:
    """One dense layer left in bfloat16."""
    return Block(hidden=partial(nn.Dense, dtype=jnp.bfloat16))


def biased_variance() -> nn.Module:
    """Flax's own batch norm, with the momentum turned around, keeps the biased variance."""
    return Block(norm=OwnBatchNorm)


class OwnBatchNorm(nn.Module):
    """`flax.linen.BatchNorm` under the signature of the block's."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)(x)
