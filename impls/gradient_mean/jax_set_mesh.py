"""Differentiate the loss of the whole batch under `jax.jit`, which places its arguments itself.

A mean is then the mean over all samples, wherever they lie (J11). So is a batch norm's.
https://docs.jax.dev/en/latest/_autosummary/jax.set_mesh.html
"""

import jax
from conformance import implementation
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P


@implementation(
    "gradient_mean", framework="jax", promise="sample_mean", needs="jax>=0.7.1", batch="whole"
)
def jax_set_mesh(loss, params, batches, devices):
    def total(params, batches):
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)
        return sum(loss(params, *batch) for batch in whole)

    with jax.set_mesh(Mesh(devices, ("ranks",))):
        step = jax.jit(jax.grad(total), in_shardings=(P(), P("ranks")), out_shardings=P())
        return step(params, batches)
