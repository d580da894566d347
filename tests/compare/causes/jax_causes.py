"""Ports of `torch_causes.py`: right ones written in unusual ways, and wrong in one step each."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

gelu = partial(nn.gelu, approximate=False)
normal, zeros = nn.initializers.normal(), nn.initializers.zeros


class Upscaler(nn.Module):
    how: str = ""

    def kernel(self):
        w = self.param("conv_kernel", normal, (3, 3, 3, 8))
        if self.how == "as_kept":
            return w
        mean, variance = w.mean((0, 1, 2)), w.var((0, 1, 2), ddof=int(self.how == "n_less_one"))
        if self.how == "one_pass":
            variance = (w * w).mean((0, 1, 2)) - mean**2
        if self.how == "outside":
            return (w - mean) / (jnp.sqrt(variance) + 1e-5)
        return (w - mean) * lax.rsqrt(variance + 1e-5)

    def grouped(self, x):
        w = self.param("grouped_kernel", normal, (3, 3, 2, 8))
        b = self.param("grouped_bias", zeros, (8,))
        if self.how == "in_turn":
            x = x.reshape(*x.shape[:3], 2, 4).swapaxes(-1, -2).reshape(x.shape)
        if self.how == "block_diagonal":
            whole = jnp.zeros((3, 3, 8, 8))
            for g in range(4):
                whole = whole.at[:, :, 2 * g : 2 * g + 2, 2 * g : 2 * g + 2].set(
                    w[..., 2 * g : 2 * g + 2]
                )
            return conv(x, whole) + b
        return conv(x, w, groups=4) + b

    @nn.compact
    def __call__(self, x):
        x = conv(x, self.kernel()) + self.param("conv_bias", zeros, (8,))
        if self.how == "groups_in_turn":
            y = x.reshape(*x.shape[:3], 4, 2)
            y = y - y.mean((1, 2, 3), keepdims=True)
            y = y * lax.rsqrt((y * y).mean((1, 2, 3), keepdims=True) + 1e-5)
            w = self.param("norm_scale", nn.initializers.ones, (8,))
            x = y.reshape(x.shape) * w + self.param("norm_bias", zeros, (8,))
        else:
            x = nn.GroupNorm(2, epsilon=1e-5, name="norm")(x)
        x = self.grouped(nn.leaky_relu(x, 0.01 if self.how == "slope" else 0.2))
        n, h, w, c = x.shape
        if self.how == "scattered":
            y = jnp.zeros((n, 2 * h, 2 * w, c // 4))
            for i in range(2):
                for j in range(2):
                    y = y.at[:, i::2, j::2].set(x[..., 2 * i + j :: 4])
            return y
        split = (2, 2, c // 4) if self.how == "tensorflow" else (c // 4, 2, 2)
        order = (0, 1, 3, 2, 4, 5) if self.how == "tensorflow" else (0, 1, 4, 2, 5, 3)
        return x.reshape(n, h, w, *split).transpose(order).reshape(n, 2 * h, 2 * w, c // 4)


def conv(x, w, groups=1):
    return lax.conv_general_dilated(
        x, w, (1, 1), ((1, 1), (1, 1)), feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


class Bottleneck(nn.Module):
    how: str = ""

    @nn.compact
    def __call__(self, x, train=True):
        plain = partial(nn.Conv, use_bias=False)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
        first, second = ((2, 2), (1, 1)) if self.how == "stride_first" else ((1, 1), (2, 2))
        y = plain(6, (1, 1), first, name="conv1")(x)
        if self.how == "norm_last":
            y = norm(name="bn1")(nn.relu(y))
        else:
            y = nn.relu(norm(name="bn1")(y))
        y = norm(name="bn2")(plain(8, (3, 3), second, padding=((1, 1), (1, 1)), name="conv2")(y))
        z = plain(8, (1, 1), (2, 2), padding="VALID", name="down")(x)
        if self.how == "relu_of_one":
            return nn.relu(y) + z
        if self.how == "maximum":  # relu(y + z), written otherwise
            return jnp.maximum(y, -z) + z
        return nn.relu(y + z)


class Attention(nn.Module):
    how: str = ""

    def positions(self, length, half):
        base = 5e5 if self.how == "base" else 10000.0
        steps = half if self.how == "half" else half - 1
        at = jnp.arange(length) + (self.how == "from_one")
        angles = at[:, None] * base ** -(jnp.arange(half) / steps)
        if self.how == "complex":
            turned = jnp.exp(1j * angles)
            return jnp.concatenate((turned.imag, turned.real), -1)
        both = (jnp.sin(angles), jnp.cos(angles))
        if self.how == "interleaved":
            return jnp.stack(both, -1).reshape(length, -1)
        return jnp.concatenate(both, -1)

    def attended(self, q, k, v):
        length, width = q.shape[1], q.shape[-1]
        if self.how == "exchanged":
            q, k = k, q
        scale = {"all_heads": (2 * width) ** -0.5}.get(self.how, width**-0.5)
        seen = jnp.tri(length, dtype=bool)
        if self.how == "keys_first":  # The scores lie the other way round, so does the softmax.
            scores = jnp.einsum("bkhd,bqhd->bhkq", k, q) * scale
            weights = jax.nn.softmax(jnp.where(seen.T, scores, -jnp.inf), 2)
            return jnp.einsum("bhkq,bkhd->bqhd", weights, v)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * scale
        if self.how == "inverted":
            seen = ~seen | jnp.eye(length, dtype=bool)
        if self.how == "added":  # No infinity, and no softmax of a library.
            weights = jnp.exp(scores - 3.0) * seen
            return jnp.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)
        if self.how == "unmasked_unscaled":
            seen, scores = jnp.ones_like(seen), scores / scale
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(seen, scores, -1e30)), v)

    @nn.compact
    def __call__(self, x, memory):
        n, length, width = x.shape
        first, second = (nn.LayerNorm(epsilon=1e-5, name=name) for name in ("norm", "norm2"))
        x = x + self.positions(length, width // 2)
        y = x if self.how == "post" else first(x)
        z = y if self.how == "own_keys" else memory
        split = lambda t: t.reshape(n, length, 2, -1)  # noqa: E731
        q, k, v = (split(nn.Dense(width, name=m)(t)) for m, t in (("q", y), ("k", z), ("v", z)))
        y = nn.Dense(width, name="out")(self.attended(q, k, v).reshape(x.shape))
        x = (first(x) if self.how == "residual_of_norm" else x) + y
        if self.how == "post":
            x = first(x)
        feed = lambda t: nn.Dense(width, name="fc2")(gelu(nn.Dense(12, name="fc1")(t)))  # noqa: E731
        if self.how == "post":
            return second(x + feed(x))
        if self.how == "centring":  # A layer norm by a matrix that takes the mean off.
            w = self.param("norm2_scale", nn.initializers.ones, (width,))
            b = self.param("norm2_bias", zeros, (width,))
            y = x @ (jnp.eye(width) - 1 / width)
            return x + feed(y * lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-5) * w + b)
        return x + feed(second(x))


class Recurrent(nn.Module):
    kind: str = "lstm"
    how: str = ""
    ways: tuple[str, ...] = ("",)

    def step(self, w, held, x):
        a, b = w["ih"] @ x + w["bih"], w["hh"] @ held[0] + w["bhh"]
        if self.kind == "lstm":
            i, f, g, o = jnp.split(a + b, 4)
            half = lambda t: 0.5 * (jnp.tanh(0.5 * t) + 1)  # noqa: E731  That is the sigmoid.
            gate = (
                half
                if self.how == "by_tanh"
                else nn.hard_sigmoid
                if self.how == "hard"
                else nn.sigmoid
            )
            c = gate(f + (self.how == "forget")) * held[1] + gate(i) * jnp.tanh(g)
            return gate(o) * jnp.tanh(c), c
        (ra, za, na), (rb, zb, nb) = jnp.split(a, 3), jnp.split(b, 3)
        r, z = nn.sigmoid(ra + rb), nn.sigmoid(za + zb)
        if self.how == "reset_first":
            new = jnp.tanh(na + w["hh"][10:] @ (r * held[0]) + w["bhh"][10:])
        else:
            new = jnp.tanh(na + r * nb)
        z = 1 - z if self.how == "keeps_new" else z
        return (new + z * (held[0] - new),)

    def way(self, x, name):
        rows = 5 * (4 if self.kind == "lstm" else 3)
        w = {
            key: self.param(f"rnn.{part}_l0{name}", normal, shape)
            for key, part, shape in (
                ("ih", "weight_ih", (rows, 4)), ("hh", "weight_hh", (rows, 5)),
                ("bih", "bias_ih", (rows,)), ("bhh", "bias_hh", (rows,)),
            )
        }  # fmt: skip
        first = (jnp.zeros(5),) * (2 if self.kind == "lstm" else 1)

        def step(held, t):
            held = self.step(w, held, t)
            return held, held[0]

        turned = bool(name) != (self.how == "backwards")
        return jax.vmap(lambda t: lax.scan(step, first, t, reverse=turned)[1])(x)

    @nn.compact
    def __call__(self, x):
        y = x.swapaxes(0, 1) if self.how == "over_batch" else x
        y = jnp.concatenate([self.way(y, name) for name in self.ways], -1)
        if self.how == "way_back_first":
            y = jnp.roll(y, 5, -1)
        return nn.Dense(3, name="fc")(y.swapaxes(0, 1) if self.how == "over_batch" else y)


class Scored(nn.Module):
    how: str = ""

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(6, name="up")(x)
        variance = y.var(-1, keepdims=True, ddof=int(self.how == "n_less_one"))
        eps = 1e-6 if self.how == "two" else 1e-5
        y = (y - y.mean(-1, keepdims=True)) / jnp.sqrt(variance + eps)
        y = nn.gelu(y, approximate=self.how == "two")
        y = y + x if self.how == "added" else y * x
        p = nn.softmax(nn.Dense(4, name="gate")(y))
        count = 1 if self.how == "one_expert" else 2
        if self.how == "sorted":  # By the rank of each, from the largest.
            p = jnp.where(jnp.argsort(jnp.argsort(-p, -1), -1) < 2, p, 0.0)
        else:
            largest, places = lax.top_k(p, count)
            p = (jax.nn.one_hot(places, 4) * largest[..., None]).sum(-2)
        s = p * nn.Dense(4, name="experts")(y)
        s = s.mean(-1) if self.how == "mean" else s @ jnp.ones(4)
        apart = s[None, :] - s[:, None] if self.how == "sign" else s[:, None] - s[None, :]
        return y / jnp.maximum(jnp.linalg.norm(y, axis=-1, keepdims=True), 1e-12), s, apart


class Resized(nn.Module):
    how: str = ""

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(4, (3, 3), padding=1, name="conv1")(x)
        n, h, w, c = y.shape
        half, whole = (n, h // 2, w // 2, c), (n, 2 * h, 2 * w, c)
        if self.how == "smoothed":
            y = jax.image.resize(y, half, "bilinear")
        elif self.how == "matrix":
            pick = np.kron(np.eye(h // 2), [0.5, 0.5])
            y = jnp.einsum("ij,njkc,lk->nilc", pick, y, pick)
        else:
            y = jax.image.resize(y, half, "bilinear", antialias=False)
        gate = nn.sigmoid(y).mean()
        if self.how == "in_turn":
            z = jnp.tile(y, (1, 4, 4, 1))
        elif self.how == "matrix":
            at = jnp.arange(2 * h) // 4
            z = y[:, at][:, :, at]
        else:
            z = jax.image.resize(y, whole, "bilinear" if self.how == "smooth" else "nearest")
        return nn.Conv(2, (3, 3), padding=1, name="conv2")(z) * gate


class Latent(nn.Module):
    how: str = ""

    @nn.compact
    def __call__(self, x):
        gate, up = nn.Dense(12, name="gate")(x), nn.Dense(12, name="up")(x)
        if self.how == "exchanged":
            gate, up = up, gate
        y = gate * up / (1 + jnp.exp(-gate)) if self.how == "written_out" else nn.silu(gate) * up
        square = (y * y).sum(-1, keepdims=True) if self.how == "sum" else (y * y).mean(-1)[:, None]
        root = jnp.sqrt(square) + 1e-6 if self.how == "outside" else jnp.sqrt(square + 1e-6)
        y = y / root
        if self.how == "written_out":  # Each channel by itself, and rows of the head's kernel.
            y = jnp.stack([y[:, 4 * c : 4 * c + 4].reshape(-1, 2, 2) for c in range(3)], -1)
        elif self.how == "channels_last":
            y = y.reshape(-1, 2, 2, 3)
        else:
            y = y.reshape(-1, 3, 2, 2).transpose(0, 2, 3, 1)
        y = nn.Conv(2, (3, 3), padding=1, name="conv")(y)
        y = y if self.how == "flattened" else y.transpose(0, 3, 1, 2)
        y = nn.Dense(2, name="head")(y.reshape(y.shape[0], -1))
        if self.how == "written_out":
            return y - jnp.log(jnp.exp(y).sum(-1, keepdims=True))
        return jax.nn.softmax(y) if self.how == "no_log" else jax.nn.log_softmax(y)


MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "upscaler": (Upscaler, {}),
    "bottleneck": (Bottleneck, {}),
    "attention": (Attention, {}),
    "lstm": (Recurrent, {}),
    "bilstm": (Recurrent, {"ways": ("", "_reverse")}),
    "gru": (Recurrent, {"kind": "gru"}),
    "scored": (Scored, {}),
    "resized": (Resized, {}),
    "latent": (Latent, {}),
}


def __getattr__(name: str) -> Any:
    """A factory by the names of a model and of how it is ported: `gru`, `gru_reset_first`."""
    model, _, how = name.partition("_")
    if model not in MODELS:
        raise AttributeError(name)
    made, settings = MODELS[model]
    return lambda: made(how=how, **settings)
