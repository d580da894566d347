"""Compute every rank's own gradient by `jax.vmap`, on one device, and average them.

No other file here takes a mean that is not a collective's.
The definition; its twin is `numpy_virtual_definition`.
"""

import jax
from conformance import implementation


@implementation("gradient_mean", framework="jax", promise="rank_mean", devices="one")
def jax_vmap_mean(loss, params, batches, devices):
    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    def step(params, batches):
        grads = jax.vmap(jax.grad(total), in_axes=(None, 0))(params, batches)
        return jax.tree.map(lambda g: g.mean(axis=0), grads)

    with jax.default_device(devices[0]):
        return step(params, batches)
