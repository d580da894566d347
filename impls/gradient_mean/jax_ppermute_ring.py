"""Send pieces of the gradient round a ring, adding, and round again to hand them out.

Each piece is added up once, so that every rank holds the same bits.
Patarasuk and Yuan, doi:10.1016/j.jpdc.2008.09.002.
"""

from functools import partial

import jax
import jax.numpy as jnp
from conformance import implementation
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="rank_mean")
def jax_ppermute_ring(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))
    ring = [(rank, (rank + 1) % len(devices)) for rank in range(len(devices))]

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    # Nothing tells JAX that the ranks agree in the end, so what varies cannot be checked.
    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P(), check_vma=False)
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        flat, unravel = ravel_pytree(jax.grad(total)(params, mine))
        pieces = jnp.pad(flat, (0, -flat.size % len(devices))).reshape(len(devices), -1)
        rank = lax.axis_index("ranks")
        piece = pieces[rank]
        for hop in range(1, len(devices)):
            piece = lax.ppermute(piece, "ranks", ring) + pieces[(rank - hop) % len(devices)]
        # Rank r now holds the sum of piece r + 1.
        piece = piece / len(devices)
        means = pieces.at[(rank + 1) % len(devices)].set(piece)
        for hop in range(1, len(devices)):
            piece = lax.ppermute(piece, "ranks", ring)
            means = means.at[(rank + 1 - hop) % len(devices)].set(piece)
        return unravel(means.ravel()[: flat.size])

    return step(params, batches)
