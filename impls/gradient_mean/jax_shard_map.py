"""Gradient mean by shard_map."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="rank_mean"
)
def jax_shard_map(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Average the loss inside `jax.shard_map`, which then averages the gradient.

    Source: https://docs.jax.dev/en/latest/notebooks/shard_map.html; J5: where check_vma is True, as
    it is by default, the gradient of replicated parameters is summed over ranks already.

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
        TypeError: if the loss is not a scalar, or scans from a carry that is the same on all
            ranks.
        ValueError: if W is not the number of devices, or W > 1 and an array is committed to a
            device.

    >>> def loss(params, inputs, targets, weights):
    ...     return (weights * (params["a"] * inputs - targets)).sum() / weights.sum()
    >>> x = jax.numpy.array([[1.0, 2.0, 3.0, 6.0]])
    >>> grads = jax_shard_map(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """
    mesh = Mesh(devices, ("ranks",))

    def total(params: Params, batches: Sequence[Batch]) -> jax.Array:
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params: Params, batches: Sequence[Batch]) -> Params:
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank

        def mean_loss(params: Params) -> jax.Array:
            return lax.pmean(total(params, mine), "ranks")

        # J6: a pmean of the gradient, in place of the loss's, would leave W times the mean.
        return jax.grad(mean_loss)(params)

    return step(params, batches)
