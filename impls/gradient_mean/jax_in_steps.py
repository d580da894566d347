"""Average the ranks' own gradients inside `jax.shard_map`, step after step, with one program.

A function of arrays keeps nothing from step to step (M5). For scans see `jax_shard_map`.
https://docs.jax.dev/en/latest/notebooks/shard_map.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation(
    "gradient_mean", framework="jax", promise="rank_mean", steps="several", needs="jax>=0.8.2"
)
def jax_in_steps(loss, params, windows, devices):
    mesh = Mesh(devices, ("ranks",))

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        varying = lax.pcast(params, "ranks", to="varying")
        grads = jax.grad(lambda params: sum(loss(params, *batch) for batch in mine))(varying)
        return lax.pmean(grads, "ranks")

    for batches in windows:
        yield step(params, batches)
