"""Gradient mean by jit under a mesh that is set."""

from collections.abc import Callable, Sequence

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="sample_mean"
)
def jax_set_mesh(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Differentiate the loss of the whole batch under `jax.jit`, which places its arguments itself.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.set_mesh.html; J11: a mean is the mean
    over all samples.

    Args:
        loss: of (params, *batch), a scalar: the weighted mean over the samples of the batch.
        params: a pytree of floating-point arrays, of any shapes.
        batches: K of (inputs (W, n, …), targets (W, n, …), weights (W, n)); a weight is 1 for a
            sample and 0 for padding.
        devices: W of them, one a rank.

    Returns:
        The gradient of the mean over all samples of a micro-batch, summed over micro-batches; as
        params in tree, shapes and dtypes.

    Raises:
        TypeError: if the loss is not a scalar.
        ValueError: if W is not a multiple of the number of devices, or W > 1 and an array is
            committed to a device.

    >>> def loss(params, inputs, targets, weights):
    ...     return (weights * (params["a"] * inputs - targets)).sum() / weights.sum()
    >>> x = jax.numpy.array([[1.0, 2.0, 3.0, 6.0]])
    >>> grads = jax_set_mesh(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """

    def total(params: Params, batches: Sequence[Batch]) -> jax.Array:
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)
        return sum(loss(params, *batch) for batch in whole)

    with jax.set_mesh(Mesh(devices, ("ranks",))):
        step = jax.jit(jax.grad(total), in_shardings=(P(), P("ranks")), out_shardings=P())
        return step(params, batches)
