"""Divide the psum of a whole step's sums by the psum of its items inside `jax.shard_map`.

All micro-batches and all ranks are added up before anything is divided (M1). For scans see
`jax_shard_map`.
https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="step_mean", needs="jax>=0.8.2")
def jax_step_mean_psum(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        varying = lax.pcast(params, "ranks", to="varying")

        def summed(params):
            return sum(loss(params, *batch) * batch[-1].sum() for batch in mine)

        items = sum(weights.sum() for *_, weights in mine)
        grads, items = lax.psum((jax.grad(summed)(varying), items), "ranks")
        return jax.tree.map(lambda g: g / items, grads)

    return step(params, batches)
