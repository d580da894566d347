"""Average the ranks' own gradients inside `jax.pmap`.

Under pmap a gradient is the rank's own (J8). It maps over the devices of its own process.
https://docs.jax.dev/en/latest/_autosummary/jax.pmap.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax


@implementation("gradient_mean", framework="jax", promise="rank_mean", spans="process")
def jax_pmap(loss, params, batches, devices):
    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params, batches):
        return lax.pmean(jax.grad(total)(params, batches), "ranks")

    return step(params, batches)
