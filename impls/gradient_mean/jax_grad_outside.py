"""Differentiate the averaged loss from outside `jax.shard_map`.

A gradient taken outside is right with check_vma=True and with check_vma=False (J10). For scans see
`jax_shard_map`.
https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean")
def jax_grad_outside(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def mean_loss(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        return lax.pmean(total(params, mine), "ranks")

    return jax.jit(jax.grad(mean_loss))(params, batches)
