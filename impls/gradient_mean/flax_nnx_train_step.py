"""Gradient mean in the train step of Flax NNX."""

from collections.abc import Callable, Sequence

import jax
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import conformance

Params = dict[str, jax.Array]
Batch = tuple[jax.Array, jax.Array, jax.Array]


class Model(nnx.Module):
    """A module whose parameters are those of the question.

    Attributes:
        params: a pytree of `nnx.Param`.
    """

    def __init__(self, params: Params) -> None:
        self.params = nnx.data(jax.tree.map(nnx.Param, params))


@conformance.implementation(
    "gradient_mean", framework="jax", runs="one_process", promise="sample_mean"
)
def flax_nnx_train_step(
    loss: Callable[..., jax.Array],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[jax.Device],
) -> Params:
    """Differentiate the loss of the whole batch under `nnx.jit`, and update the module.

    Source: https://flax.readthedocs.io/en/stable/guides/flax_gspmd.html; J11: a mean is the mean
    over all samples. The step hands the gradient out too: to take it from the parameters' change
    would round.

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
        ValueError: if W is not a multiple of the number of devices.

    >>> def loss(params, inputs, targets, weights):
    ...     return (weights * (params["a"] * inputs - targets)).sum() / weights.sum()
    >>> x = jax.numpy.array([[1.0, 2.0, 3.0, 6.0]])
    >>> grads = flax_nnx_train_step(loss, {"a": x[0, 0]}, [(x, x, x**0)], jax.devices()[:1])
    >>> grads["a"].item()
    3.0
    """
    mesh = Mesh(devices, ("ranks",))

    @nnx.jit
    def train_step(model: Model, optimizer: nnx.Optimizer, batches: Sequence[Batch]) -> Params:
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)

        def total(model: Model) -> jax.Array:
            return sum(loss(nnx.as_pure(model.params), *batch) for batch in whole)

        grads = nnx.grad(total)(model)
        optimizer.update(model, grads)
        return nnx.to_pure_dict(grads.params)

    model = Model(jax.device_put(params, NamedSharding(mesh, P())))
    optimizer = nnx.Optimizer(model, optax.sgd(1.0), wrt=nnx.Param)
    batches = jax.device_put(batches, NamedSharding(mesh, P("ranks")))
    return train_step(model, optimizer, batches)
