"""Gradient mean of unequal shards that are padded and masked."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="sample_mean"
)
def jax_masked(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Divide the sum of the ranks' sums by the sum of their counts inside `jax.shard_map`.

    Source: J16: padded shards need psum(sum) / psum(count).

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
        TypeError: if the loss is not a scalar, or scans from a carry that is the same on all
            ranks.
        ValueError: if W is not the number of devices, or W > 1 and an array is committed to a
            device.

    >>> def loss(params, inputs, targets, weights):
    ...     return (weights * (params["a"] * inputs - targets)).sum() / weights.sum()
    >>> x = jax.numpy.array([[1.0, 2.0, 3.0, 6.0]])
    >>> grads = jax_masked(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """
    mesh = Mesh(devices, ("ranks",))

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params: Params, batches: Sequence[Batch]) -> Params:
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        varying = lax.pcast(params, "ranks", to="varying")

        def sample_mean(batch: Batch) -> Params:
            count = batch[-1].sum()
            # Mean times count is a sum, and sums add up over ranks; dividing last rounds once.
            grads = jax.grad(lambda params: count * loss(params, *batch))(varying)
            grads, count = lax.psum((grads, count), "ranks")
            return jax.tree.map(lambda g: (g / jnp.maximum(count, 1)).astype(g.dtype), grads)

        return jax.tree.map(lambda *means: sum(means), *map(sample_mean, mine))

    return step(params, batches)
