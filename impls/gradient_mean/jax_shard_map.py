"""Average the loss inside `jax.shard_map`, which then averages the gradient.

Where check_vma is True, as it is by default, the gradient of replicated parameters is summed over
ranks already (J5). A loss whose scan starts from a carry that all ranks share is a TypeError.
https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean")
def jax_shard_map(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank

        def mean_loss(params):
            return lax.pmean(total(params, mine), "ranks")

        # J6: a pmean of the gradient, in place of the loss's, would leave W times the mean.
        return jax.grad(mean_loss)(params)

    return step(params, batches)
