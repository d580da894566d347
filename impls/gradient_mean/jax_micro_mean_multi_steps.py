"""Average a rank's micro-batches in `optax.MultiSteps`, and what it emits over ranks.

Its mean is kept up to date, m + (g − m)/k, with the K that it is told (M3). pmap maps over the
devices of its own process.
https://optax.readthedocs.io/en/latest/api/optimizer_wrappers.html
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from conformance import implementation
from jax import lax


@implementation(
    "gradient_mean", framework="jax", promise="rank_mean", micro_batches="mean", spans="process"
)
def jax_micro_mean_multi_steps(loss, params, batches, devices):
    accumulation = optax.MultiSteps(
        optax.identity(),  # in training an optimizer; this one emits the gradient itself
        every_k_schedule=len(batches),
        accumulator_dtype=jnp.result_type(*jax.tree.leaves(params)),
    )

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params, batches):
        state = accumulation.init(params)
        for batch in batches:
            grads, state = accumulation.update(jax.grad(loss)(params, *batch), state)
        return lax.pmean(grads, "ranks")  # zeros until the last micro-batch

    return step(params, batches)
