"""Differentiate the loss of the whole batch, on one device.

What the others share out among ranks is this. A batch norm sees all samples.
The definition; its twin is `torch_module`.
"""

import jax
from conformance import implementation


@implementation(
    "gradient_mean", framework="jax", promise="sample_mean", devices="one", batch="whole"
)
def jax_one_device(loss, params, batches, devices):
    def total(params, batches):
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)
        return sum(loss(params, *batch) for batch in whole)

    with jax.default_device(devices[0]):
        return jax.jit(jax.grad(total))(params, batches)
