"""Add up sums in `optax.MultiSteps`, with their counts beside them, and divide what it emits.

By default it averages over micro-batches, whose counts differ (M1); its accumulator is told to add
up. pmap maps over the devices of its own process.
https://optax.readthedocs.io/en/latest/api/optimizer_wrappers.html
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from conformance import implementation
from jax import lax


@implementation("gradient_mean", framework="jax", promise="step_mean", spans="process")
def jax_step_mean_multi_steps(loss, params, batches, devices):
    accumulation = optax.MultiSteps(
        optax.identity(),  # in training an optimizer; this one emits the gradient itself
        every_k_schedule=len(batches),
        use_grad_mean=False,
        accumulator_dtype=jnp.result_type(*jax.tree.leaves(params)),
    )

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params, batches):
        def summed(params, *batch):
            return loss(params, *batch) * batch[-1].sum()

        state, items = accumulation.init(params), 0
        for batch in batches:
            grads, state = accumulation.update(jax.grad(summed)(params, *batch), state)
            items += batch[-1].sum()
        grads, items = lax.psum((grads, items), "ranks")
        return jax.tree.map(lambda g: g / items, grads)

    return step(params, batches)
