"""Equinox's gradient of a batch that is sharded, as its guide to data parallelism has it.

pip install equinox==0.13.8
conformance run --adapter examples/third_party/equinox_sharded.py '*/equinox_sharded'
"""

import equinox as eqx
import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import conformance


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="sample_mean"
)
def equinox_sharded(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))
    replicated, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P("ranks"))

    @eqx.filter_jit
    def gradient(params, batch):
        params = eqx.filter_shard(params, replicated)
        batch = eqx.filter_shard(batch, sharded)
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)  # (W·n, …)
        return eqx.filter_grad(loss)(params, *whole)

    batches = eqx.filter_shard(batches, sharded)
    grads = [gradient(eqx.filter_shard(params, replicated), batch) for batch in batches]
    return jax.tree.map(lambda *parts: sum(parts), *grads)
