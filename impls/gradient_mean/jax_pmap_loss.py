"""Gradient mean by pmap, of a loss that is averaged itself."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
from jax import lax

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="rank_mean"
)
def jax_pmap_loss(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Average the loss, and then its gradient too, inside `jax.pmap`.

    Source: J7: the gradient of an averaged loss is still the rank's own under pmap, and the mean
    under `shard_map`; averaged again it is the mean under both.

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
    >>> grads = jax_pmap_loss(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """

    def total(params: Params, batches: Sequence[Batch]) -> jax.Array:
        return sum(loss(params, *batch) for batch in batches)

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params: Params, batches: Sequence[Batch]) -> Params:
        def mean_loss(params: Params) -> jax.Array:
            return lax.pmean(total(params, batches), "ranks")

        # Under pmap psum's transpose is psum: W cotangents of 1/W come back as 1, the rank's own.
        return lax.pmean(jax.grad(mean_loss)(params), "ranks")

    return step(params, batches)
