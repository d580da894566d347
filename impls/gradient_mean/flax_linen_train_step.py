"""Gradient mean in the train step of Flax Linen."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import optax
from flax.training.train_state import TrainState
from jax import lax

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="rank_mean"
)
def flax_linen_train_step(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Average the ranks' own gradients inside `jax.pmap`, and apply them to a `TrainState`.

    Source: https://github.com/google/flax/blob/main/examples/imagenet/train.py, `train_step`. The
    step hands the gradient out too: to take it from the parameters' change would round.

    Args:
        loss: of (params, *batch), a scalar: the weighted mean over the samples of the batch.
        params: a pytree of floating-point arrays, of any shapes.
        batches: K of (inputs (W, n, …), targets (W, n, …), weights (W, n)); a weight is 1 for a
            sample and 0 for padding.
        devices: W of them, one a rank.

    Returns:
        The mean over ranks of each rank's own gradient, summed over micro-batches; as params in
        tree, shapes and dtypes.

    Raises:
        TypeError: if the loss is not a scalar.
        ValueError: if W is more than the number of devices, or W > 1 and an array is committed
            to a device.

    >>> def loss(params, inputs, targets, weights):
    ...     return (weights * (params["a"] * inputs - targets)).sum() / weights.sum()
    >>> x = jax.numpy.array([[1.0, 2.0, 3.0, 6.0]])
    >>> grads = flax_linen_train_step(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def train_step(state: TrainState, batches: Sequence[Batch]) -> tuple[TrainState, Params]:
        def total(params: Params) -> jax.Array:
            return sum(state.apply_fn(params, *batch) for batch in batches)

        grads = lax.pmean(jax.grad(total)(state.params), "ranks")
        return state.apply_gradients(grads=grads), grads

    # In training apply_fn is a module's, and the loss is made from it; here it is the loss itself.
    state = TrainState.create(apply_fn=loss, params=params, tx=optax.sgd(1.0))
    state, grads = train_step(state, batches)
    return grads
