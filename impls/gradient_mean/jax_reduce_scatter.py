"""Gradient mean by reduce-scatter and all-gather."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="rank_mean"
)
def jax_reduce_scatter(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Average one piece of the gradient on each rank inside `jax.shard_map`, and gather them.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.psum_scatter.html

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
    >>> grads = jax_reduce_scatter(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
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
        varying = lax.pcast(params, "ranks", to="varying")
        flat, unravel = ravel_pytree(jax.grad(total)(varying, mine))
        padded = jnp.pad(flat, (0, -flat.size % len(devices)))  # into equal pieces
        piece = lax.psum_scatter(padded, "ranks", tiled=True) / len(devices)
        # To the default, varying, out_specs=P() would be refused, although the ranks agree.
        whole = lax.all_gather(piece, "ranks", tiled=True, to="invarying")
        return unravel(whole[: flat.size])

    return step(params, batches)
