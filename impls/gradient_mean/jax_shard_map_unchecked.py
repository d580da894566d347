"""Gradient mean by shard_map that does not check what varies."""

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
def jax_shard_map_unchecked(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Average the ranks' own gradients inside `jax.shard_map` with check_vma=False.

    Source: https://docs.jax.dev/en/latest/notebooks/shard_map.html; J8: without the check a
    gradient is the rank's own.

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
        ValueError: if W is not the number of devices, or W > 1 and an array is committed to a
            device.

    >>> def loss(params, inputs, targets, weights):
    ...     return (weights * (params["a"] * inputs - targets)).sum() / weights.sum()
    >>> x = jax.numpy.array([[1.0, 2.0, 3.0, 6.0]])
    >>> grads = jax_shard_map_unchecked(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """
    mesh = Mesh(devices, ("ranks",))

    def total(params: Params, batches: Sequence[Batch]) -> jax.Array:
        return sum(loss(params, *batch) for batch in batches)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P(), check_vma=False)
    def step(params: Params, batches: Sequence[Batch]) -> Params:
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        # Without pmean, out_specs=P() would return rank 0's gradient and not say so.
        return lax.pmean(jax.grad(total)(params, mine), "ranks")

    return step(params, batches)
