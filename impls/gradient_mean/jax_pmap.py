"""Gradient mean by pmap."""

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
def jax_pmap(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Average the ranks' own gradients inside `jax.pmap`.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.pmap.html; J8: under pmap a gradient is
    the rank's own.

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
    >>> grads = jax_pmap(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """

    def total(params: Params, batches: Sequence[Batch]) -> jax.Array:
        return sum(loss(params, *batch) for batch in batches)

    @partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)
    def step(params: Params, batches: Sequence[Batch]) -> Params:
        return lax.pmean(jax.grad(total)(params, batches), "ranks")

    return step(params, batches)
