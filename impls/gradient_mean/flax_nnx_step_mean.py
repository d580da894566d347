"""Differentiate one mean over a step's items under `nnx.jit`, and update the module.

The micro-batches' sums and counts are added up before they are divided (M1). The step hands the
gradient out too: to take it from the parameters' change would round.
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


@implementation("gradient_mean", framework="jax", promise="step_mean", needs="flax>=0.12.7")
def flax_nnx_step_mean(loss, params, batches, devices):
    mesh = Mesh(devices, ("ranks",))

    @nnx.jit
    def train_step(model, optimizer, batches):
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)  # (W·n, …)
        items = sum(weights.sum() for *_, weights in whole)

        def mean(model):
            params = nnx.as_pure(model.params)
            return sum(loss(params, *batch) * batch[-1].sum() for batch in whole) / items

        grads = nnx.grad(mean)(model)
        optimizer.update(model, grads)
        return nnx.to_pure_dict(grads.params)

    model = Model(jax.device_put(params, NamedSharding(mesh, P())))
    optimizer = nnx.Optimizer(model, optax.sgd(1.0), wrt=nnx.Param)
    batches = jax.device_put(batches, NamedSharding(mesh, P("ranks")))
    return train_step(model, optimizer, batches)
