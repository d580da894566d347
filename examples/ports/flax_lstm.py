"""Right: `reader`, with Flax's cell, and `by_hand`. Wrong: `gate_order`.

    conformance compare torch:examples/ports/torch_lstm.py:reader \\
        jax:examples/ports/flax_lstm.py:reader --input 2,4,5
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

WIDTH = 6


class Reader(nn.Module):
    """(N, L, 5) to (N, 3), with a kernel for each gate."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.RNN(nn.OptimizedLSTMCell(WIDTH))(x)
        return nn.Dense(3, name="head")(y[:, -1])


class Fused(nn.Module):
    """torch's arrays under torch's names, and a scan."""

    order: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        into, within = (
            self.param(f"weight_{name}_l0", nn.initializers.normal(), (4 * WIDTH, width))
            for name, width in (("ih", x.shape[-1]), ("hh", WIDTH))
        )
        biases = [
            self.param(f"bias_{name}_l0", nn.initializers.zeros, (4 * WIDTH,))
            for name in ("ih", "hh")
        ]

        def step(carry: tuple[jax.Array, jax.Array], at: jax.Array) -> tuple[object, jax.Array]:
            h, c = carry
            rows = at @ into.T + biases[0] + h @ within.T + biases[1]
            gates = dict(zip(self.order, jnp.split(rows, 4, -1), strict=True))
            c = nn.sigmoid(gates["f"]) * c + nn.sigmoid(gates["i"]) * jnp.tanh(gates["g"])
            h = nn.sigmoid(gates["o"]) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[0], WIDTH), x.dtype)
        return jax.lax.scan(step, (zero, zero), x.swapaxes(0, 1))[1].swapaxes(0, 1)


class ByHand(nn.Module):
    """(N, L, 5) to (N, 3)."""

    order: str = "ifgo"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(3, name="head")(Fused(self.order, name="lstm")(x)[:, -1])


def reader() -> nn.Module:
    """Right."""
    return Reader()


def by_hand() -> nn.Module:
    """Right too."""
    return ByHand()


def gate_order() -> nn.Module:
    """Keras' neighbours: i, f, o, g."""
    return ByHand("ifog")
