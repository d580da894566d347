"""Divide the sum of the ranks' sums by the sum of their counts inside `jax.shard_map`.

Padded shards need psum(sum) / psum(count) (J16). For scans see `jax_shard_map`.
https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from functools import partial

import jax
import jax.numpy as jnp
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="sample_mean", needs="jax>=0.8.2")
def jax_masked(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        varying = lax.pcast(params, "ranks", to="varying")

        def sample_mean(batch):
            count = batch[-1].sum()
            # Mean times count is a sum, and sums add up over ranks; dividing last rounds once.
            grads = jax.grad(lambda params: count * loss(params, *batch))(varying)
            grads, count = lax.psum((grads, count), "ranks")
            return jax.tree.map(lambda g: (g / jnp.maximum(count, 1)).astype(g.dtype), grads)

        return jax.tree.map(lambda *means: sum(means), *map(sample_mean, mine))

    return step(params, batches)
