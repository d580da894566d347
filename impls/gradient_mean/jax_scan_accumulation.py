"""Gradient mean once, after a scan over micro-batches."""

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
    "gradient_mean", framework="jax", runs="one_process", promise="rank_mean"
)
def jax_scan_accumulation(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Add up a rank's own gradients in `lax.scan`, and average once after the last.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.scan.html; a mean of sums is the sum
    of means (D13), for one all-reduce in place of K.

    Args:
        loss: of (params, *batch), a scalar: the weighted mean over the samples of the batch.
        params: a pytree of floating-point arrays, of any shapes.
        batches: K of (inputs (W, n, …), targets (W, n, …), weights (W, n)); a weight is 1 for a
            sample and 0 for padding. n may differ: a scan takes one shape, so that the shorter
            ones are filled up with padding.
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
    >>> grads = jax_scan_accumulation(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """
    mesh = Mesh(devices, ("ranks",))
    longest = max(weights.shape[1] for _, _, weights in batches)

    def filled(x: jax.Array) -> jax.Array:
        return jnp.pad(x, [(0, 0), (0, longest - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("ranks")), out_specs=P())
    def step(params: Params, batches: Sequence[Batch]) -> Params:
        varying = lax.pcast(params, "ranks", to="varying")
        mine = jax.tree.map(lambda *x: jnp.stack(x).squeeze(1), *batches)  # K of (1, n, …)

        def add(grads: Params, batch: Batch) -> tuple[Params, None]:
            return jax.tree.map(jnp.add, grads, jax.grad(loss)(varying, *batch)), None

        # zeros_like of what varies varies, as the carry of this scan must.
        grads, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, varying), mine)
        return lax.pmean(grads, "ranks")

    return step(params, jax.tree.map(filled, batches))
