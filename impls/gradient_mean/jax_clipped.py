"""Clip the average of all ranks and micro-batches to a norm of 1 inside `jax.pmap`.

After the pmean every device has the whole gradient, so that its norm needs no reduction (M9).
https://optax.readthedocs.io/en/latest/api/transformations.html#optax.clip_by_global_norm
"""

from functools import partial

import jax
import optax
from conformance import implementation
from jax import lax


@implementation("gradient_mean", framework="jax", promise="rank_mean", clip="norm", spans="process")
def jax_clipped(loss, params, batches, devices):
    clip = optax.clip_by_global_norm(1.0)

    def total(params, batches):
        return sum(loss(params, *batch) for batch in batches)

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params, batches):
        grads = lax.pmean(jax.grad(total)(params, batches), "ranks")
        clipped, _ = clip.update(grads, clip.init(params))
        return clipped

    return step(params, batches)
