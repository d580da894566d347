"""Ports of `torch_kinds.py`, right and wrong."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Gate(nn.Module):
    renorm: bool = True
    k: int = 2
    after: bool = False

    @nn.compact
    def __call__(self, x):
        logits = nn.Dense(4, use_bias=False, name="gate")(x)
        p = jax.nn.softmax(logits, -1)
        w, idx = jax.lax.top_k(p, self.k)
        if self.renorm:
            w = w / w.sum(-1, keepdims=True)
        dense = (jax.nn.one_hot(idx, 4, dtype=w.dtype) * w[..., None]).sum(-2)
        outs = []
        for e in range(4):
            y = nn.silu(nn.Dense(8, name=f"experts_{e}_0")(x))
            outs.append(nn.Dense(x.shape[-1], name=f"experts_{e}_2")(y))
        return jnp.einsum("bne,ebnd->bnd", dense, jnp.stack(outs))


class T5(nn.Module):
    scale: bool = False
    bi: bool = True
    eps: float = 1e-6
    sign: int = 1

    @nn.compact
    def __call__(self, x):
        w = self.param("layer_norm", nn.initializers.ones, (8,))
        y = w * x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + self.eps)
        b, n, d = y.shape
        q, k, v = (nn.Dense(8, use_bias=False, name=c)(y).reshape(b, n, 2, 4) for c in "qkv")
        pos = jnp.arange(n)
        rel = self.sign * (pos[None] - pos[:, None])
        out = jnp.where(rel > 0, 4, 0)
        rel = jnp.abs(rel)
        large = 2 + (jnp.log(jnp.maximum(rel, 1) / 2) / jnp.log(20 / 2) * 2).astype(int)
        out = out + jnp.where(rel < 2, rel, jnp.minimum(large, 3))
        bias = nn.Embed(8, 2, name="relative_attention_bias")(out).transpose(2, 0, 1)[None]
        s = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        if self.scale:
            s = s / 2
        p = jax.nn.softmax(s + bias)
        return x + nn.Dense(8, use_bias=False, name="o")(
            jnp.einsum("bhqk,bkhd->bqhd", p, v).reshape(b, n, d)
        )


class Clip(nn.Module):
    exp: bool = True
    norm: bool = True
    both: bool = True

    @nn.compact
    def __call__(self, image, text):
        i, t = (
            nn.Dense(8, use_bias=False, name="image")(image),
            nn.Dense(8, use_bias=False, name="text")(text),
        )
        i = i / jnp.linalg.norm(i, axis=-1, keepdims=True)
        if self.norm:
            t = t / jnp.linalg.norm(t, axis=-1, keepdims=True)
        s = self.param("logit_scale", nn.initializers.constant(2.65), ())
        logits = (jnp.exp(s) if self.exp else s) * i @ t.T
        labels = jnp.arange(i.shape[0])
        a = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()
        b = -jnp.mean(jnp.diag(jax.nn.log_softmax(logits.T)))
        return (a + b) / 2 if self.both else a


def moe():
    return Gate()


def moe_renorm():
    return Gate(renorm=False)


def moe_one():
    return Gate(k=1)


def t5():
    return T5()


def t5_scale():
    return T5(scale=True)


def t5_sign():
    return T5(sign=-1)


def t5_eps():
    return T5(eps=1e-5)


def clip():
    return Clip()


def clip_exp():
    return Clip(exp=False)


def clip_norm():
    return Clip(norm=False)


def clip_both():
    return Clip(both=False)


def linear(p, x):
    return x @ p["w"] + p["b"]


def init(i, o):
    return {"w": jnp.zeros((i, o)), "b": jnp.zeros(o)}


def norm(p, x, eps=1e-5):
    m = x.mean(-1, keepdims=True)
    v = jnp.mean(x * x, -1, keepdims=True) - m * m
    return (x - m) / jnp.sqrt(v + eps) * p["scale"] + p["bias"]


def _mlp(approx, eps=1e-5):
    def f(p, x):
        return x + linear(
            p["fc2"], jax.nn.gelu(norm(p["norm"], linear(p["fc1"], x), eps), approximate=approx)
        )

    return jax.jit(f), {
        "fc1": init(8, 12),
        "norm": {"scale": jnp.ones(12), "bias": jnp.zeros(12)},
        "fc2": init(12, 8),
    }


def mlp():
    return _mlp(False)


def mlp_gelu():
    return _mlp(True)


def square():
    return lambda p, x: linear(p["b"], jnp.tanh(linear(p["a"], x))), {
        "a": init(8, 8),
        "b": init(8, 8),
    }
