"""Differentiate the mean of the micro-batches' losses under `jax.jit`; the shardings do the rest.

Each micro-batch's mean is over the samples of all devices (J11), and counts 1/K (M3).
https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html
"""

import jax
from conformance import implementation
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="sample_mean", micro_batches="mean")
def jax_micro_mean_sharding(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    def mean(params, batches):
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)
        return sum(loss(params, *batch) for batch in whole) / len(whole)

    params = jax.device_put(params, NamedSharding(mesh, P()))
    batches = jax.device_put(batches, NamedSharding(mesh, P("ranks")))
    return jax.jit(jax.grad(mean), out_shardings=NamedSharding(mesh, P()))(params, batches)
