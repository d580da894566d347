"""Differentiate the loss of the whole batch under `jax.jit`; the shardings do the rest.

A mean is then the mean over all samples, wherever they lie (J11). So is a batch norm's.
https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html
"""

import jax
from conformance import implementation
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="sample_mean", batch="whole")
def jax_jit_sharding(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    def total(params, batches):
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)
        return sum(loss(params, *batch) for batch in whole)

    params = jax.device_put(params, NamedSharding(mesh, P()))
    batches = jax.device_put(batches, NamedSharding(mesh, P("ranks")))
    return jax.jit(jax.grad(total), out_shardings=NamedSharding(mesh, P()))(params, batches)
