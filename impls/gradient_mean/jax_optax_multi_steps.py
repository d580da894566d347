"""Add up a rank's own gradients in `optax.MultiSteps`, and average what it emits.

By default it averages over micro-batches, and accumulates in float32 whatever the gradient is. pmap
maps over the devices of its own process.
https://optax.readthedocs.io/en/latest/api/optimizer_wrappers.html
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from conformance import implementation
from jax import lax


@implementation("gradient_mean", framework="jax", promise="rank_mean", spans="process")
def jax_optax_multi_steps(loss, params, batches, devices):
    accumulation = optax.MultiSteps(
        optax.identity(),  # in training an optimizer; this one emits the gradient itself
        every_k_schedule=len(batches),
        use_grad_mean=False,
        accumulator_dtype=jnp.result_type(*jax.tree.leaves(params)),
    )

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params, batches):
        state = accumulation.init(params)
        for batch in batches:
            grads, state = accumulation.update(jax.grad(loss)(params, *batch), state)
        return lax.pmean(grads, "ranks")  # zeros until the last micro-batch

    return step(params, batches)
