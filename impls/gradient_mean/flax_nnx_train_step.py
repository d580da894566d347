"""Differentiate the loss of the whole batch under `nnx.jit`, and update the module.

A mean is the mean over all samples (J11). The step hands the gradient out too: to take it from the
parameters' change would round.
https://flax.readthedocs.io/en/stable/guides/flax_gspmd.html
"""

import jax
import optax
from conformance import implementation
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


class Model(nnx.Module):
    """A module whose parameters are those of the question."""

    def __init__(self, params):
        self.params = nnx.data(jax.tree.map(nnx.Param, params))


@implementation("gradient_mean", framework="jax", promise="sample_mean", needs="flax>=0.12.7")
def flax_nnx_train_step(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    @nnx.jit
    def train_step(model, optimizer, batches):
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)

        def total(model):
            return sum(loss(nnx.as_pure(model.params), *batch) for batch in whole)

        grads = nnx.grad(total)(model)
        optimizer.update(model, grads)
        return nnx.to_pure_dict(grads.params)

    model = Model(jax.device_put(params, NamedSharding(mesh, P())))
    optimizer = nnx.Optimizer(model, optax.sgd(1.0), wrt=nnx.Param)
    batches = jax.device_put(batches, NamedSharding(mesh, P("ranks")))
    return train_step(model, optimizer, batches)
