"""Add the ranks' own gradients up inside `jax.shard_map`, and divide by nothing.

For scans see `jax_shard_map`.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.psum.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_sum", needs="jax>=0.8.2")
def jax_psum_sum(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        varying = lax.pcast(params, "ranks", to="varying")
        return lax.psum(jax.grad(total)(varying, mine), "ranks")

    return step(params, batches)
