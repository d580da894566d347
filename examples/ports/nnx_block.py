"""The right port to Flax NNX. Its own BatchNorm keeps the biased running variance, as Linen's does:

    conformance compare torch:examples/ports/torch_block.py:block \\
        jax:examples/ports/nnx_block.py:block --input 4,6,12,12 --allow biased-running-variance
"""

import jax
from flax import nnx
from flax_block import channel_shuffle, exact_gelu, flatten


class Block(nnx.Module):
    """(N, 12, 12, 6) to (N, 4)."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.expand = nnx.Conv(6, 12, (1, 1), feature_group_count=3, use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(12, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.depthwise = nnx.Conv(
            12, 12, (3, 3), 2, padding=((1, 1), (1, 1)), feature_group_count=12, use_bias=False,
            rngs=rngs,
        )  # fmt: skip
        self.norm2 = nnx.BatchNorm(12, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.hidden = nnx.Linear(48, 48, rngs=rngs)
        self.head = nnx.Linear(48, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = channel_shuffle(exact_gelu(self.norm1(self.expand(x))), 3)
        x = nnx.max_pool(self.norm2(self.depthwise(x)), (3, 3), (3, 3))
        return self.head(exact_gelu(self.hidden(flatten(x))))


def block() -> nnx.Module:
    """What `jax:examples/ports/nnx_block.py:block` names."""
    return Block(nnx.Rngs(0))
