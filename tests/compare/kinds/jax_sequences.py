"""Ports of `torch_sequences.py`, right and wrong."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Temporal(nn.Module):
    pads: Any = ((4, 0),)
    last_pads: Any = ((2, 0),)
    dilation: int = 2

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(6, (3,), 1, self.pads, kernel_dilation=self.dilation, name="first")(x)
        return nn.Conv(3, (3,), 1, self.last_pads, name="second")(nn.relu(y))


class Shared(nn.Module):
    tiled: bool = False

    @nn.compact
    def __call__(self, x):
        n, size, d = x.shape
        q = nn.Dense(d, name="q")(x).reshape(n, size, 4, -1)
        kv = nn.Dense(d, name="kv")(x).reshape(n, size, 2, 2, -1)
        kv = jnp.tile(kv, (1, 1, 1, 2, 1)) if self.tiled else jnp.repeat(kv, 2, 3)
        y = jax.nn.dot_product_attention(q, kv[:, :, 0], kv[:, :, 1])
        return nn.Dense(d, name="o")(y.reshape(n, size, d))


class Shifted(nn.Module):
    there: int = -1
    back: int = 1
    is_last: bool = True

    @nn.compact
    def __call__(self, x):
        y = jnp.roll(nn.LayerNorm(epsilon=1e-5, name="norm")(x), self.there, 1)
        y = nn.Dense(2 * x.shape[2], name="mix")(y.reshape(x.shape[0], -1, 2 * x.shape[2]))
        y = x + jnp.roll(y.reshape(x.shape), self.back, 1)
        normed = nn.LayerNorm(epsilon=1e-5, name="last")(y)
        return nn.Dense(3, name="head")(normed if self.is_last else y)


class Fourier(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = x + jnp.fft.fftn(x, axes=(-2, -1)).real
        y = nn.LayerNorm(epsilon=1e-5, name="norm")(y)
        weight = self.param("weight", nn.initializers.ones, (x.shape[2],))
        z = jnp.fft.rfft(y, axis=1)[:, :2] * weight
        y = y + jnp.fft.irfft(z, n=x.shape[1], axis=1)
        return nn.Dense(3, name="head")(y), jnp.fft.fft(x)


def fourier():
    return Fourier()


class Deep(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        for i in range(24):
            y = nn.Dense(x.shape[1], name=f"{i}_0")(x)
            y = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name=f"{i}_1")(y)
            x = nn.gelu(y, approximate=i == 0)
        return x


def deep_tanh():
    return Deep()


def temporal():
    return Temporal()


def temporal_same():
    return Temporal("SAME")


def temporal_chomped_first():
    return Temporal(((0, 4),))


def temporal_dense():
    return Temporal(((2, 0),), dilation=1)


def shared():
    return Shared()


def shared_tiled():
    return Shared(tiled=True)


def shifted():
    return Shifted()


def shifted_not():
    return Shifted(there=0, back=0)


def shifted_back():
    return Shifted(back=-1)


def shifted_without_last_norm():
    return Shifted(is_last=False)
