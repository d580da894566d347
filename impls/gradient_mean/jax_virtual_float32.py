"""Map every rank's own gradient along a named axis, and average along it in float32 at least.

It is rounded once, to the gradient's own dtype, when nothing can overflow or be swallowed any more.
The axis knows its size: nobody counts ranks, which float16 could only up to 2,048.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.pmean.html
"""

from functools import partial

import jax
import jax.numpy as jnp
from conformance import implementation
from jax import lax


@implementation("gradient_mean", framework="jax", runs="virtual", promise="rank_mean")
def jax_virtual_float32(loss, params, batches, devices):
    def in_float32(g):
        wide = jnp.promote_types(g.dtype, jnp.float32)
        return lax.pmean(g.astype(wide), "ranks").astype(g.dtype)

    @jax.jit
    @partial(jax.vmap, axis_name="ranks", in_axes=(None, 0), out_axes=None)
    def mean(params, batch):
        return jax.tree.map(in_float32, jax.grad(loss)(params, *batch))

    with jax.default_device(devices[0]):
        first, *others = (mean(params, batch) for batch in batches)
        return jax.tree.map(lambda *ks: sum(ks[1:], ks[0]), first, *others)
