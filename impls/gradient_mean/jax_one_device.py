"""Gradient mean on one device."""

from collections.abc import Callable, Sequence

import jax

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="sample_mean"
)
def jax_one_device(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Differentiate the loss of the whole batch, on one device.

    Source: the definition: what the others share out among ranks is this.

    Args:
        loss: of (params, *batch), a scalar: the weighted mean over the samples of the batch.
        params: a pytree of floating-point arrays, of any shapes.
        batches: K of (inputs (W, n, …), targets (W, n, …), weights (W, n)); a weight is 1 for a
            sample and 0 for padding.
        devices: at least one; the first computes all.

    Returns:
        The gradient of the mean over all samples of a micro-batch, summed over micro-batches; as
        params in tree, shapes and dtypes.

    Raises:
        TypeError: if the loss is not a scalar.

    >>> def loss(params, inputs, targets, weights):
    ...     return (weights * (params["a"] * inputs - targets)).sum() / weights.sum()
    >>> x = jax.numpy.array([[1.0, 2.0, 3.0, 6.0]])
    >>> grads = jax_one_device(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """

    def total(params: Params, batches: Sequence[Batch]) -> jax.Array:
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)
        return sum(loss(params, *batch) for batch in whole)

    with jax.default_device(devices[0]):
        return jax.jit(jax.grad(total))(params, batches)
