"""Add up the ranks' own means over K micro-batches inside `jax.shard_map`.

Ranks are not averaged, micro-batches are (M3). With check_vma=True the gradient of a replicated
parameter is summed over ranks already (J5).
https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from functools import partial

import jax
from conformance import implementation
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation(
    "gradient_mean", framework="jax", promise="rank_sum", micro_batches="mean", needs="jax>=0.8.2"
)
def jax_micro_mean_psum(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank

        def mean(params):
            return sum(loss(params, *batch) for batch in mine) / len(mine)

        return jax.grad(mean)(params)

    return step(params, batches)
