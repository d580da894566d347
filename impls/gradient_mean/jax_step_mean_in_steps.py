"""Divide each step's sum by its own number of items under `jax.jit`, step after step.

Sums and counts are both over the window, wherever its items lie (M1, M5).
https://docs.jax.dev/en/latest/notebooks/Distributed_arrays_and_automatic_parallelization.html
"""

from functools import partial

import jax
from conformance import implementation
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


@implementation("gradient_mean", framework="jax", promise="step_mean", steps="several")
def jax_step_mean_in_steps(loss, params, windows, devices):
    mesh = Mesh(devices, ("ranks",))

    @partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def step(params, batches):
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)
        items = sum(weights.sum() for *_, weights in whole)

        def mean(params):
            return sum(loss(params, *batch) * batch[-1].sum() for batch in whole) / items

        return jax.grad(mean)(params)

    params = jax.device_put(params, NamedSharding(mesh, P()))
    for batches in windows:
        yield step(params, jax.device_put(batches, NamedSharding(mesh, P("ranks"))))
