"""Right: `block`. Wrong: every other function, in the one thing that it is named after.

    conformance compare torch:examples/ports/torch_transformer.py:block \\
        jax:examples/ports/flax_transformer.py:block --input 2,5,8
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

WIDTH, HEADS, HIDDEN = 8, 2, 16


class RMSNorm(nn.Module):
    """x / √(mean x² + ε), times a weight."""

    epsilon: float = 1e-6
    offset: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.ones, x.shape[-1:])
        mean = jnp.mean(jnp.square(x), -1, keepdims=True)
        return (self.offset + weight) * (x * jax.lax.rsqrt(mean + self.epsilon))


def angles(x: jax.Array) -> jax.Array:
    """Of each position and pair."""
    length, width = x.shape[-2:]
    return jnp.outer(jnp.arange(length), 1.0 / 10000.0 ** (jnp.arange(0, width, 2) / width))


def halves(x: jax.Array) -> jax.Array:
    """Rotates entry i with entry i + d/2."""
    at = jnp.concatenate([angles(x)] * 2, -1)
    a, b = jnp.split(x, 2, -1)
    return x * jnp.cos(at) + jnp.concatenate([-b, a], -1) * jnp.sin(at)


def neighbours(x: jax.Array) -> jax.Array:
    """Rotates entry 2i with entry 2i + 1."""
    a, b, at = x[..., ::2], x[..., 1::2], angles(x)
    cos, sin = jnp.cos(at), jnp.sin(at)
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


class Block(nn.Module):
    """(N, L, 8) to the same. The fields are what ports get wrong."""

    rotary: Any = staticmethod(halves)
    gate: Any = staticmethod(nn.silu)
    norm: Any = RMSNorm
    causal: bool = True
    scale: float = (WIDTH // HEADS) ** -0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attend(self.norm(name="attention_norm")(x))
        y = self.norm(name="mlp_norm")(x)
        dense = partial(nn.Dense, use_bias=False)
        gate = self.gate(dense(HIDDEN, name="mlp_gate_proj")(y))
        return x + dense(WIDTH, name="mlp_down_proj")(gate * dense(HIDDEN, name="mlp_up_proj")(y))

    def attend(self, x: jax.Array) -> jax.Array:
        """Each position sees itself and what came before."""
        n, length, _ = x.shape
        dense = partial(nn.Dense, WIDTH, use_bias=False)
        q, k, v = (
            dense(name=f"attention_{name}_proj")(x).reshape(n, length, HEADS, -1).swapaxes(1, 2)
            for name in "qkv"
        )
        scores = self.rotary(q) @ self.rotary(k).swapaxes(2, 3) * self.scale
        if self.causal:
            scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
        y = (jax.nn.softmax(scores, -1) @ v).swapaxes(1, 2).reshape(n, length, WIDTH)
        return dense(name="attention_o_proj")(y)


def block() -> nn.Module:
    """Right."""
    return Block()


def rotary_layout() -> nn.Module:
    """Pairs neighbours, as GPT-J does."""
    return Block(rotary=neighbours)


def activation() -> nn.Module:
    """Gates by GELU."""
    return Block(gate=nn.gelu)


def default_epsilon() -> nn.Module:
    """The epsilon of torch's layer norm."""
    return Block(norm=partial(RMSNorm, epsilon=1e-5))


def norm_weight_plus_one() -> nn.Module:
    """Gemma's norm."""
    return Block(norm=partial(RMSNorm, offset=1.0))


def causal_mask() -> nn.Module:
    """Sees what comes later."""
    return Block(causal=False)


def attention_scale() -> nn.Module:
    """Does not divide by the root of a head's width."""
    return Block(scale=1.0)
