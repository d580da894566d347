"""Gradient mean over thousands of virtual ranks by vmap with an axis name, summed in float32."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


@conformance.implementation("gradient_mean", framework="jax", runs="virtual", promise="rank_mean")
def jax_virtual_float32(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Map every rank's own gradient along a named axis, and average along it in float32 at least.

    It is rounded once, to the gradient's own dtype, when nothing can overflow or be swallowed any
    more. The axis knows its size: nobody counts ranks, which float16 could only up to 2,048.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.pmean.html

    Args:
        loss: of (params, *batch), a scalar: the weighted mean over the samples of the batch.
        params: a pytree of floating-point arrays, of any shapes.
        batches: K of (inputs (W, n, …), targets (W, n, …), weights (W, n)).
        devices: W times the same.

    Returns:
        The mean over ranks of each rank's own gradient, summed over micro-batches; as params in
        tree, shapes and dtypes.

    Raises:
        TypeError: if the loss is not a scalar.

    >>> def loss(params, inputs, targets, weights):
    ...     return (weights * (params["a"] * inputs - targets)).sum() / weights.sum()
    >>> x = jax.numpy.array([[1.0, 2.0, 3.0, 6.0]]).T
    >>> grads = jax_virtual_float32(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1] * 4)
    >>> grads["a"].item()
    3.0
    """

    def in_float32(g: jax.Array) -> jax.Array:
        wide = jnp.promote_types(g.dtype, jnp.float32)
        return lax.pmean(g.astype(wide), "ranks").astype(g.dtype)

    @jax.jit
    @partial(jax.vmap, axis_name="ranks", in_axes=(None, 0), out_axes=None)
    def mean(params: Params, batch: Batch) -> Params:
        return jax.tree.map(in_float32, jax.grad(loss)(params, *batch))

    with jax.default_device(devices[0]):
        first, *others = (mean(params, batch) for batch in batches)
        return jax.tree.map(lambda *ks: sum(ks[1:], ks[0]), first, *others)
