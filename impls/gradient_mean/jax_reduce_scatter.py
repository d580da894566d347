"""Average one piece of the gradient on each rank inside `jax.shard_map`, and gather them.

For scans see `jax_shard_map`. `to="invarying"` is in jax from 0.10 on.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.psum_scatter.html
"""

from functools import partial

import jax
import jax.numpy as jnp
from conformance import implementation
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean", needs="jax>=0.10")
def jax_reduce_scatter(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        varying = lax.pcast(params, "ranks", to="varying")
        flat, unravel = ravel_pytree(jax.grad(total)(varying, mine))
        padded = jnp.pad(flat, (0, -flat.size % len(devices)))  # into equal pieces
        piece = lax.psum_scatter(padded, "ranks", tiled=True) / len(devices)
        # To the default, varying, out_specs=P() would be refused, although the ranks agree.
        whole = lax.all_gather(piece, "ranks", tiled=True, to="invarying")
        return unravel(whole[: flat.size])

    return step(params, batches)
