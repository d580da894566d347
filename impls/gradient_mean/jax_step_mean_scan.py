"""Carry gradients of sums and their count through `lax.scan` over micro-batches.

Both are divided after the last, in one psum (M1). A scan takes one shape: shorter micro-batches
are filled up with items of weight 0 (M2). For scans see `jax_shard_map`.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.scan.html
"""

from functools import partial

import jax
import jax.numpy as jnp
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="step_mean", needs="jax>=0.8.2")
def jax_step_mean_scan(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))
    longest = max(weights.shape[1] for *_, weights in batches)

    def filled(x):
        return jnp.pad(x, [(0, 0), (0, longest - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        varying = lax.pcast(params, "ranks", to="varying")
        mine = jax.tree.map(lambda *x: jnp.stack(x).squeeze(1), *batches)  # K of (1, n, …)

        def summed(params, batch):
            return loss(params, *batch) * batch[-1].sum()

        def add(total, batch):
            own = jax.grad(summed)(varying, batch), batch[-1].sum()
            return jax.tree.map(jnp.add, total, own), None

        # zeros_like of what varies varies, as the carry of this scan must.
        zeros = jax.tree.map(jnp.zeros_like, (varying, mine[-1].sum()))
        total, _ = lax.scan(add, zeros, mine)
        grads, items = lax.psum(total, "ranks")
        return jax.tree.map(lambda g: g / items, grads)

    return step(params, jax.tree.map(filled, batches))
