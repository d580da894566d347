"""Add up a rank's own gradients in `lax.scan`, and average once after the last.

A mean of sums is the sum of means (D13), for one all-reduce in place of K. A scan takes one shape:
shorter micro-batches are filled up with padding. For scans see `jax_shard_map`.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.scan.html
"""

from functools import partial

import jax
import jax.numpy as jnp
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean", needs="jax>=0.8.2")
def jax_scan_accumulation(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))
    longest = max(weights.shape[1] for _, _, weights in batches)

    def filled(x):
        return jnp.pad(x, [(0, 0), (0, longest - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        varying = lax.pcast(params, "ranks", to="varying")
        mine = jax.tree.map(lambda *x: jnp.stack(x).squeeze(1), *batches)  # K of (1, n, …)

        def add(grads, batch):
            return jax.tree.map(jnp.add, grads, jax.grad(loss)(varying, *batch)), None

        # zeros_like of what varies varies, as the carry of this scan must.
        grads, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, varying), mine)
        return lax.pmean(grads, "ranks")

    return step(params, jax.tree.map(filled, batches))
