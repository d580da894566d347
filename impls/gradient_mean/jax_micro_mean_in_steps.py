"""Average micro-batches in one `optax.MultiSteps` through all steps, and ranks in `jax.pmap`.

Its schedule says how many micro-batches each step has (M3); it starts anew by itself (M5). pmap
maps over the devices of its own process.
https://optax.readthedocs.io/en/latest/api/optimizer_wrappers.html
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from conformance import implementation
from jax import lax


@implementation(
    "gradient_mean",
    framework="jax",
    promise="rank_mean",
    micro_batches="mean",
    steps="several",
    spans="process",
)
def jax_micro_mean_in_steps(loss, params, windows, devices):
    lengths = jnp.array([len(batches) for batches in windows], jnp.int32)
    accumulation = optax.MultiSteps(
        optax.identity(),  # in training an optimizer; this one emits the gradient itself
        every_k_schedule=lambda step: lengths[step],
        accumulator_dtype=jnp.result_type(*jax.tree.leaves(params)),
    )

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, None, 0), out_axes=None, devices=devices)
    def micro_step(params, state, batch):
        mean = lax.pmean(jax.grad(loss)(params, *batch), "ranks")
        return accumulation.update(mean, state)

    state = accumulation.init(params)
    for batches in windows:
        for batch in batches:
            grads, state = micro_step(params, state, batch)
        yield grads  # zeros until the last micro-batch
