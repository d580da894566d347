"""Ports of `torch_more.py`, right and wrong."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Heads(nn.Module):
    wrong: str = ""

    @nn.compact
    def __call__(self, x):
        n, size, d = x.shape
        split = (n, size, 3, d // 2, 2) if self.wrong == "split" else (n, size, 3, 2, d // 2)
        qkv = nn.Dense(3 * d, name="qkv")(x).reshape(split)
        qkv = qkv.swapaxes(3, 4) if self.wrong == "split" else qkv
        q, k, v = jnp.moveaxis(qkv, 2, 0)
        a = jnp.einsum("blhd,bmhd->bhlm", q, k) / jnp.sqrt(d // 2)
        a = nn.softmax(a, -2 if self.wrong == "axis" else -1)
        y = jnp.einsum("bhlm,bmhd->blhd", a, v)
        y = y.swapaxes(2, 3) if self.wrong == "split" else y
        return nn.Dense(d, name="proj")(y.reshape(n, size, d))


class Causal(nn.Module):
    shift: Any = 0

    @nn.compact
    def __call__(self, x):
        n, size, d = x.shape
        q, k, v = jnp.split(nn.Dense(3 * d, name="c_attn")(x), 3, -1)
        q, k, v = (t.reshape(n, size, 2, -1) for t in (q, k, v))
        mask = None if self.shift is None else jnp.tri(size, size, self.shift, dtype=bool)
        y = jax.nn.dot_product_attention(q, k, v, mask=mask)
        return nn.Dense(d, name="c_proj")(y.reshape(n, size, d))


class Rotary(nn.Module):
    neighbours: bool

    def turned(self, x):
        size, d = x.shape[1], x.shape[-1]
        t = jnp.arange(size)[:, None, None] * 10000.0 ** (-jnp.arange(0, d, 2) / d)
        c, s = jnp.cos(t), jnp.sin(t)
        if self.neighbours:
            a, b = x[..., ::2], x[..., 1::2]
            return jnp.stack((a * c - b * s, a * s + b * c), -1).reshape(x.shape)
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate((a * c - b * s, b * c + a * s), -1)

    @nn.compact
    def __call__(self, x):
        n, size, d = x.shape
        q, k, v = (
            nn.Dense(d, use_bias=False, name=f"w{m}")(x).reshape(n, size, 2, d // 2) for m in "qkv"
        )
        y = jax.nn.dot_product_attention(self.turned(q), self.turned(k), v, is_causal=True)
        return nn.Dense(d, use_bias=False, name="wo")(y.reshape(n, size, d))


class ComplexRotary(Rotary):
    def turned(self, x):
        size, d = x.shape[1], x.shape[-1]
        t = jnp.arange(size)[:, None, None] * 10000.0 ** (-jnp.arange(0, d, 2) / d)
        z = jax.lax.complex(x[..., ::2], x[..., 1::2]) * jnp.exp(1j * t)
        return jnp.stack((z.real, z.imag), -1).reshape(x.shape)


class Tied(nn.Module):
    trains_padding: bool = False

    @nn.compact
    def __call__(self, ids, mask=None):
        word = nn.Embed(9, 6, name="word")
        x = word(ids)
        if not self.trains_padding:
            x = jnp.where(ids[..., None] == 0, jax.lax.stop_gradient(x), x)
        x = nn.Dense(6, name="dense")(x)
        if mask is not None:
            a = jnp.where(mask[:, None] > 0, x @ x.swapaxes(1, 2), -jnp.inf)
            x = nn.softmax(a) @ x
        return word.attend(x)


class Graph(nn.Module):
    slope: float = 0.2

    @nn.compact
    def __call__(self, x, edges):
        n = len(x)
        h = nn.Dense(4, use_bias=False, name="lin")(x)
        both = jnp.concatenate([h[edges[0]], h[edges[1]]], -1)
        a = nn.leaky_relu(nn.Dense(1, use_bias=False, name="att")(both), self.slope)[:, 0]
        p = jnp.exp(a - jax.ops.segment_max(a, edges[1], n)[edges[1]])
        p = p / jax.ops.segment_sum(p, edges[1], n)[edges[1]]
        return jax.ops.segment_sum(h[edges[0]] * p[:, None], edges[1], n)


class Points(nn.Module):
    pad: Any = ((2, 0),)

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Conv(6, (3,), padding=self.pad, name="near")(x))
        return nn.Dense(4, name="each")(x).max(1)


class Mixed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(5, name="head")(jnp.tanh(nn.Conv(4, (3, 3), name="conv")(x)))


def in_float32(cast):
    """What a port does in float32 alone: by a policy, or because its products do so."""
    return lambda x: cast(x) if x.dtype == jnp.float32 else x


class Dense(nn.Module):
    features: int
    cast: Any = staticmethod(lambda x: x)

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.normal(), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return self.cast(x) @ self.cast(kernel) + bias


class Post(nn.Module):
    cast: Any = staticmethod(lambda x: x)
    first: bool = False
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        norm = nn.LayerNorm(epsilon=1e-5, name="norm")
        y = nn.Dense(6, name="dense", param_dtype=self.param_dtype)(x)
        x = norm(y) + x if self.first else norm(y + x)
        return Dense(3, self.cast, name="out")(x)


class Table(nn.Module):
    @nn.compact
    def __call__(self, x):
        table = jnp.sin(jnp.arange(16) * 1.7) * np.pi
        return nn.Dense(3, name="down")(jnp.tanh(nn.Dense(16, name="up")(x) + table))


def heads():
    return Heads()


def heads_split():
    return Heads("split")


def heads_axis():
    return Heads("axis")


def causal():
    return Causal()


def causal_none():
    return Causal(None)


def causal_shifted():
    return Causal(1)


def rotary():
    return Rotary(neighbours=False)


def rotary_neighbours():
    return Rotary(neighbours=True)


def rotary_complex():
    return ComplexRotary(neighbours=True)


def tied():
    return Tied()


def tied_padding():
    return Tied(trains_padding=True)


def graph():
    return Graph()


def points():
    return Points()


def points_same():
    return Points("SAME")


def mixed():
    return Mixed()


def post():
    return Post()


def post_first():
    return Post(first=True)


def post_tf32():
    return Post(in_float32(lambda x: jax.lax.reduce_precision(x, 8, 10)))


def post_bfloat16():
    return Post(in_float32(lambda x: x.astype(jnp.bfloat16)))


def post_half_weights():
    return Post(param_dtype=jnp.bfloat16)


def table():
    return Table()
