"""Gradient mean by optax's accumulation."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="rank_mean"
)
def jax_optax_multi_steps(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Add up a rank's own gradients in `optax.MultiSteps`, and average what it emits.

    Source: https://optax.readthedocs.io/en/latest/api/optimizer_wrappers.html. By default it
    averages over micro-batches, and accumulates in float32 whatever the gradient is.

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
    >>> grads = jax_optax_multi_steps(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """
    accumulation = optax.MultiSteps(
        optax.identity(),  # in training an optimizer; this one emits the gradient itself
        every_k_schedule=len(batches),
        use_grad_mean=False,
        accumulator_dtype=jnp.result_type(*jax.tree.leaves(params)),
    )

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params: Params, batches: Sequence[Batch]) -> Params:
        state = accumulation.init(params)
        for batch in batches:
            grads, state = accumulation.update(jax.grad(loss)(params, *batch), state)
        return lax.pmean(grads, "ranks")  # zeros until the last micro-batch

    return step(params, batches)
