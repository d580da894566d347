"""Average the ranks' own gradients inside `jax.pmap`, and apply them to a `TrainState`.

The step hands the gradient out too: to take it from the parameters' change would round. pmap maps
over the devices of its own process.
https://github.com/google/flax/blob/main/examples/imagenet/train.py, `train_step`
"""

from functools import partial

import jax
import optax
from conformance import implementation
from flax.training.train_state import TrainState
from jax import lax


@implementation("gradient_mean", framework="jax", promise="rank_mean", spans="process")
def flax_linen_train_step(loss, params, batches, devices):
    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def train_step(state, batches):
        def total(params):
            return sum(state.apply_fn(params, *batch) for batch in batches)

        grads = lax.pmean(jax.grad(total)(state.params), "ranks")
        return state.apply_gradients(grads=grads), grads

    # In training apply_fn is a module's, and the loss is made from it; here it is the loss itself.
    state = TrainState.create(apply_fn=loss, params=params, tx=optax.sgd(1.0))
    state, grads = train_step(state, batches)
    return grads
