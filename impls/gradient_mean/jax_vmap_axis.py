"""Average the ranks' own gradients inside `jax.vmap` with an axis name, on one device.

https://docs.jax.dev/en/latest/_autosummary/jax.vmap.html, axis_name
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax


@implementation("gradient_mean", framework="jax", promise="rank_mean", devices="one")
def jax_vmap_axis(loss, params, batches, devices):
    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    @partial(jax.vmap, axis_name="ranks", in_axes=(None, 0), out_axes=None)
    def step(params, batches):
        return lax.pmean(jax.grad(total)(params, batches), "ranks")

    with jax.default_device(devices[0]):
        return step(params, batches)
