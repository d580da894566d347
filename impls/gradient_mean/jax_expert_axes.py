"""Add experts' gradients up over an axis of their own, and average over both axes of a mesh.

The experts of a pair of ranks get the samples of both, as their psum over the pair says; what is
left is a sum over the pairs, divided by W as for every other parameter (M8).
https://docs.jax.dev/en/latest/_autosummary/jax.lax.psum.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean", needs="jax>=0.8.2")
def jax_expert_axes(loss, params, batches, devices):
    world, pair = len(devices), 2 if len(devices) % 2 == 0 else 1
    axes = ("data", "expert")
    sizes = (world // pair, pair)
    mesh = jax.make_mesh(sizes, axes, (AxisType.Auto, AxisType.Auto), devices=devices)

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    def reduced(path, grad):
        if "expert" not in jax.tree_util.keystr(path):
            return lax.pmean(grad, axes)
        of_the_pair = lax.psum(grad, "expert")  # what the samples that it was sent have left in it
        return lax.psum(of_the_pair, "data") / world

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(axes)), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        varying = lax.pcast(params, axes, to="varying")
        return jax.tree_util.tree_map_with_path(reduced, jax.grad(total)(varying, mine))

    return step(params, batches)
