"""Right: `stage`. Wrong: every other function, in one thing.

    conformance compare torch:examples/ports/torch_unet_stage.py:stage \\
        jax:examples/ports/flax_unet_stage.py:stage --input 2,3,8,8
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Stage(nn.Module):
    """(N, H, W, 3) to (N, H, W, 2). The fields are what ports get wrong."""

    transpose_kernel: bool = True
    swapped: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kept = nn.relu(nn.Conv(4, (3, 3), padding=1, name="enter")(x))
        x = nn.max_pool(kept, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(8, (3, 3), padding=1, name="down")(x))
        x = nn.ConvTranspose(
            4, (2, 2), (2, 2), padding="VALID", transpose_kernel=self.transpose_kernel, name="up"
        )(x)
        parts = (x, kept) if self.swapped else (kept, x)
        return nn.Conv(2, (1, 1), name="out")(jnp.concatenate(parts, -1))


def stage() -> nn.Module:
    """Right."""
    return Stage()


def kernel_flipped() -> nn.Module:
    """Flax's default leaves the kernel of a transposed convolution unflipped."""
    return Stage(transpose_kernel=False)


def concatenation_order() -> nn.Module:
    """The upper path comes first."""
    return Stage(swapped=True)
