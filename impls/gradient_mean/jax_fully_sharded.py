"""Gradient mean of parameters that are sharded too."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="rank_mean"
)
def jax_fully_sharded(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Gather the parameters inside `jax.shard_map`: to that belongs a reduce-scatter of gradients.

    Source: arXiv:1910.02054 (ZeRO), stage 3; the transpose of all_gather is psum_scatter, with
    check_vma=True and with check_vma=False.

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
    >>> grads = jax_fully_sharded(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """
    mesh = Mesh(devices, ("ranks",))

    @partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def step(params: Params, batches: Sequence[Batch]) -> Params:
        flat, unravel = ravel_pytree(params)

        @partial(jax.shard_map, mesh=mesh, in_specs=P("ranks"), out_specs=P("ranks"))
        def mean_grad(piece: jax.Array, batches: Sequence[Batch]) -> jax.Array:
            mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank

            def total(piece: jax.Array) -> jax.Array:
                whole = lax.all_gather(piece, "ranks", tiled=True)
                params = unravel(whole[: flat.size])
                return sum(loss(params, *batch) for batch in mine)

            # The reduce-scatter adds up; the mean is still to be taken.
            return jax.grad(total)(piece) / len(devices)

        padded = jnp.pad(flat, (0, -flat.size % len(devices)))  # into equal pieces
        return unravel(mean_grad(padded, batches)[: flat.size])

    return step(params, batches)
