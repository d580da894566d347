"""Differentiate a loss of all ranks' samples, which each rank gathers, inside `jax.pmap`.

The loss takes samples and no outputs, so that it is they that are gathered; each rank then has the
whole batch's gradient, which needs no reduction (M6). A batch norm sees all samples, too.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.all_gather.html
"""

from functools import partial

import jax
from conformance import implementation
from jax import lax


@implementation(
    "gradient_mean", framework="jax", promise="sample_mean", batch="whole", spans="process"
)
def jax_batch_gathered(loss, params, batches, devices):
    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params, batches):
        whole = lax.all_gather(batches, "ranks", tiled=True)  # (W·n, …)
        return jax.grad(total)(params, whole)

    return step(params, batches)
