"""Average the ranks' own gradients inside `jax.shard_map` with check_vma=False.

Without the check a gradient is the rank's own (J8), and nobody sees a forgotten pmean.
https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean")
def jax_shard_map_unchecked(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P(), check_vma=False)
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        # Without pmean, out_specs=P() would return rank 0's gradient and not say so.
        return lax.pmean(jax.grad(total)(params, mine), "ranks")

    return step(params, batches)
