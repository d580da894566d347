"""Divide psums of a step's sums by their count inside `jax.pmap`, and apply them to a `TrainState`.

A pmean of masked means is Flax's old example, and another mean (M1).
pmap maps over the devices of its own process.
https://github.com/google/flax/blob/main/examples/wmt/train.py, `train_step`
"""

from functools import partial

import jax
import optax
from conformance import implementation
from flax.training.train_state import TrainState
from jax import lax


@implementation("gradient_mean", framework="jax", promise="step_mean", spans="process")
def flax_linen_step_mean(loss, params, batches, devices):
    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def train_step(state, batches):
        def summed(params):
            return sum(state.apply_fn(params, *batch) * batch[-1].sum() for batch in batches)

        items = sum(weights.sum() for *_, weights in batches)
        grads, items = lax.psum((jax.grad(summed)(state.params), items), "ranks")
        grads = jax.tree.map(lambda g: g / items, grads)
        return state.apply_gradients(grads=grads), grads

    # In training apply_fn is a module's, and the loss is made from it; here it is the loss itself.
    state = TrainState.create(apply_fn=loss, params=params, tx=optax.sgd(1.0))
    state, grads = train_step(state, batches)
    return grads
