"""Gather every rank's own gradient inside `jax.shard_map`, and average where they are.

For scans see `jax_shard_map`. `to="invarying"` is in jax from 0.10 on.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.all_gather.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean", needs="jax>=0.10")
def jax_all_gather_mean(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        varying = lax.pcast(params, "ranks", to="varying")
        # To the default, varying, out_specs=P() would be refused, although the ranks agree.
        grads = lax.all_gather(jax.grad(total)(varying, mine), "ranks", to="invarying")
        return jax.tree.map(lambda g: g.mean(axis=0), grads)

    return step(params, batches)
