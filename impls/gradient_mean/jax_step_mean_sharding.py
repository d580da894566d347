"""Differentiate one mean over a step's items under `jax.jit`; the shardings do the rest.

Nobody counts ranks or micro-batches: sums over arrays are sums over all devices (M1, J11).
https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html
"""

import jax
from conformance import implementation
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_step_mean_sharding(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    def mean(params, batches):
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)
        items = sum(weights.sum() for *_, weights in whole)
        return sum(loss(params, *batch) * batch[-1].sum() for batch in whole) / items

    params = jax.device_put(params, NamedSharding(mesh, P()))
    batches = jax.device_put(batches, NamedSharding(mesh, P("ranks")))
    return jax.jit(jax.grad(mean), out_shardings=NamedSharding(mesh, P()))(params, batches)
