"""Average the loss, and then its gradient too, inside `jax.pmap`.

The gradient of an averaged loss is still the rank's own under pmap, and the mean under `shard_map`;
averaged again it is the mean under both (J7). pmap maps over the devices of its own process.
https://docs.jax.dev/en/latest/_autosummary/jax.pmap.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax


@implementation("gradient_mean", framework="jax", promise="rank_mean", spans="process")
def jax_pmap_loss(loss, params, batches, devices):
    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params, batches):
        def mean_loss(params):
            return lax.pmean(total(params, batches), "ranks")

        # Under pmap psum's transpose is psum: W cotangents of 1/W come back as 1, the rank's own.
        return lax.pmean(jax.grad(mean_loss)(params), "ranks")

    return step(params, batches)
