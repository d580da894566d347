"""Flax ports of `originals.py`, right and wrong."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Residual(nn.Module):
    padding: Any = ((1, 1), (1, 1))
    activation: Any = staticmethod(nn.silu)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.activation(nn.Conv(8, (3, 3), padding=self.padding, name="first")(x))
        y = nn.Conv(8, (3, 3), padding=1, use_bias=False, name="second")(x)
        x = nn.relu(x + nn.GroupNorm(2, epsilon=1e-5, name="norm")(y))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


class Normed(nn.Module):
    epsilon: float = 1e-5
    between: Any = staticmethod(lambda x: x)
    scale: float = 1.0
    outputs: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.between(nn.Dense(16, name="up")(x))
        x = jnp.tanh(nn.LayerNorm(epsilon=self.epsilon, name="norm")(x) * self.scale)
        return nn.Dense(self.outputs, name="down")(x)


class Twice(nn.Module):
    times: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        same = nn.Dense(6, name="same")
        for _ in range(self.times - 1):
            x = nn.relu(same(x))
        return same(x)


class Odd(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.LayerNorm(epsilon=1e-5, name="norm")(nn.Dense(16, name="up")(x))
        return nn.Dense(3, name="down")(jax.scipy.special.erfinv(jnp.tanh(x) / 3))


class Bad(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(3)(x.reshape(7, -1))


class Bounded(nn.Module):
    act: Any = staticmethod(nn.relu6)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.act(nn.LayerNorm(epsilon=1e-5, name="norm")(x))
        return nn.Dense(3, name="out")(x)


def bounded() -> nn.Module:
    return Bounded()


def unbounded() -> nn.Module:
    return Bounded(nn.relu)


def grown_less() -> nn.Module:
    pads = ((1, 1), (1, 1))
    return nn.ConvTranspose(4, (4, 4), (2, 2), padding=pads, transpose_kernel=True)


def residual() -> nn.Module:
    return Residual()


def residual_valid() -> nn.Module:
    return Residual(padding="VALID")


def residual_gelu() -> nn.Module:
    return Residual(activation=nn.gelu)


def normed() -> nn.Module:
    return Normed()


def flax_epsilon() -> nn.Module:
    return Normed(epsilon=1e-6)


def odd_epsilon() -> nn.Module:
    return Normed(epsilon=2.5e-4)


def scaled() -> nn.Module:
    return Normed(scale=1.03125)


def stopped() -> nn.Module:
    return Normed(between=jax.lax.stop_gradient)


def more_outputs() -> nn.Module:
    return Normed(outputs=4)


def wide() -> nn.Module:
    return nn.Dense(9)


def twice() -> nn.Module:
    return Twice()


def thrice() -> nn.Module:
    return Twice(3)


def odd() -> nn.Module:
    return Odd()


def bad() -> nn.Module:
    return Bad()
