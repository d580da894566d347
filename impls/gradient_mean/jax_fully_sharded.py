"""Gather sharded parameters inside `jax.shard_map`, which reduce-scatters the gradients.

The transpose of `all_gather` is `psum_scatter`, with check_vma=True and with check_vma=False. For
scans see `jax_shard_map`.
arXiv:1910.02054 (ZeRO), stage 3.
"""

from functools import partial

import jax
import jax.numpy as jnp
from conformance import implementation
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean")
def jax_fully_sharded(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    @partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def step(params, batches):
        flat, unravel = ravel_pytree(params)

        @partial(jax.shard_map, mesh=mesh, in_specs=P("ranks"), out_specs=P("ranks"))
        def mean_grad(piece, batches):
            mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank

            def total(piece):
                whole = lax.all_gather(piece, "ranks", tiled=True)
                params = unravel(whole[: flat.size])
                return sum(loss(params, *batch) for batch in mine)

            # The reduce-scatter adds up; the mean is still to be taken.
            return jax.grad(total)(piece) / len(devices)

        padded = jnp.pad(flat, (0, -flat.size % len(devices)))  # into equal pieces
        return unravel(mean_grad(padded, batches)[: flat.size])

    return step(params, batches)
