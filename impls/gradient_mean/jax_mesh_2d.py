"""Average the ranks' own gradients over both axes of a mesh inside `jax.shard_map`.

A batch is split over both axes, the first one outermost. For scans see `jax_shard_map`.
https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean", needs="jax>=0.8.2")
def jax_mesh_2d(loss, params, batches, devices):
    replicas = 2 if len(devices) % 2 == 0 else 1
    mesh = jax.make_mesh(
        (replicas, len(devices) // replicas),
        ("replica", "data"),
        (AxisType.Auto, AxisType.Auto),
        devices=devices,
    )
    both = ("replica", "data")

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(both)), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        varying = lax.pcast(params, both, to="varying")
        return lax.pmean(jax.grad(total)(varying, mine), both)

    return step(params, batches)
