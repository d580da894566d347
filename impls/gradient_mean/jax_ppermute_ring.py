"""Gradient mean by a ring all-reduce of one's own."""

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
def jax_ppermute_ring(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Send pieces of the gradient round a ring, adding, and round again to hand them out.

    Source: Patarasuk and Yuan, doi:10.1016/j.jpdc.2008.09.002. Each piece is added up once, so that
    every rank holds the same bits.

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
    >>> grads = jax_ppermute_ring(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """
    mesh = Mesh(devices, ("ranks",))
    ring = [(rank, (rank + 1) % len(devices)) for rank in range(len(devices))]

    def total(params: Params, batches: Sequence[Batch]) -> jax.Array:
        return sum(loss(params, *batch) for batch in batches)

    # Nothing tells JAX that the ranks agree in the end, so what varies cannot be checked.
    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P(), check_vma=False)
    def step(params: Params, batches: Sequence[Batch]) -> Params:
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)  # (1, n, …) on each rank
        flat, unravel = ravel_pytree(jax.grad(total)(params, mine))
        pieces = jnp.pad(flat, (0, -flat.size % len(devices))).reshape(len(devices), -1)
        rank = lax.axis_index("ranks")
        piece = pieces[rank]
        for hop in range(1, len(devices)):
            piece = lax.ppermute(piece, "ranks", ring) + pieces[(rank - hop) % len(devices)]
        # Rank r now holds the sum of piece r + 1.
        piece = piece / len(devices)
        means = pieces.at[(rank + 1) % len(devices)].set(piece)
        for hop in range(1, len(devices)):
            piece = lax.ppermute(piece, "ranks", ring)
            means = means.at[(rank + 1 - hop) % len(devices)].set(piece)
        return unravel(means.ravel()[: flat.size])

    return step(params, batches)
