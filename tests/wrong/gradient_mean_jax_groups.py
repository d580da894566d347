"""Averages in JAX in which a term, an axis, an expert or one rank fares otherwise.

conformance run --adapter tests/wrong/gradient_mean_jax_groups.py 'gradient_mean/jax_expert*'

What stands before two underscores is the mistake, what stands after them tells two forms of it
apart; `_terms` says what the form promises. The same mistakes in torch stand in the
same order in gradient_mean_torch_groups.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import conformance


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_one_count_for_all_terms(loss, params, batches, devices):
    # The sums of both terms are divided by the first one's count.
    @_pmap(devices)
    def step(params, mine):
        grads, items = lax.psum((jax.grad(_sum(loss))(params, mine), _items(mine, 0)), "ranks")
        return _divided(grads, items)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_one_count_for_all_terms__second_head_by_local_counts_terms(loss, params, batches, devices):
    # The main loss has the step's count, the second head's the rank's (NVIDIA/Megatron-LM#7452).
    @_pmap(devices)
    def step(params, mine):
        def main(params):
            return _sum(loss, only=0)(params, mine)

        def second(params):
            return _sum(loss, only=1)(params, mine) / jnp.maximum(_items(mine, 1), 2.0**-8)

        grads, items = lax.psum((jax.grad(main)(params), _items(mine, 0)), "ranks")
        local = lax.pmean(jax.grad(second)(params), "ranks")
        return jax.tree.map(jnp.add, _divided(grads, items), local)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_averaged_over_one_axis(loss, params, batches, devices):
    # psum over the axis that was added to the mesh, pmean over the one that was there.
    def reduced(_path, grad):
        return lax.psum(lax.pmean(grad, "data"), "expert")

    return _on_two_axes(reduced, loss, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_experts_scaled_by_the_group(loss, params, batches, devices):
    # Experts hold the samples of their pair, and are averaged over the pairs
    # (NVIDIA/Megatron-LM#5956).
    def reduced(path, grad):
        if "expert" in jax.tree_util.keystr(path):
            return lax.pmean(lax.psum(grad, "expert"), "data")
        return lax.pmean(grad, ("data", "expert"))

    return _on_two_axes(reduced, loss, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_loss_scale_of_its_own(loss, params, batches, devices):
    # Each device multiplies the loss by its own scale, and divides the mean by it.
    @_pmap(devices)
    def step(params, mine):
        scale = 2.0 ** lax.axis_index("ranks").astype(jnp.float32)
        scale = scale.astype(jnp.result_type(*jax.tree.leaves(params)))
        grads = jax.grad(lambda params: _total(loss)(params, mine) * scale)(params)
        return _divided(lax.pmean(grads, "ranks"), scale)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", clip="norm")
def jax_clipped_in_every_micro_batch(loss, params, batches, devices):
    # The clip stands in the loop over micro-batches.
    clip = optax.clip_by_global_norm(1.0)

    @_pmap(devices)
    def step(params, mine):
        total = jax.tree.map(jnp.zeros_like, params)
        for batch in mine:
            total = jax.tree.map(jnp.add, total, jax.grad(loss)(params, *batch))
            total, _ = clip.update(total, clip.init(params))
        return lax.pmean(total, "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", clip="norm")
def jax_norm_summed_over_replicas(loss, params, batches, devices):
    # The squares of what every device holds whole are summed over the devices.
    @_pmap(devices)
    def step(params, mine):
        grads = lax.pmean(jax.grad(_total(loss))(params, mine), "ranks")
        norm = jnp.sqrt(lax.psum(jnp.square(optax.global_norm(grads)), "ranks"))
        return _divided(grads, jnp.maximum(norm, 1.0))

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", promise="sample_mean", batch="whole")
def jax_statistics_of_ranks_averaged(loss, params, batches, devices):
    # Samples get weights that add up to 1 on each device, which a batch norm takes too
    # (google/flax#2417).
    def total(params, batches):
        alike = [(x, y, w / jnp.maximum(w.sum(1, keepdims=True), 1)) for x, y, w in batches]
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), alike)
        return _total(loss)(params, whole)

    with jax.default_device(devices[0]):
        return jax.jit(jax.grad(total))(params, batches)


def _total(loss):
    """The loss of several micro-batches: theirs add up."""
    return lambda params, batches: sum(loss(params, *batch) for batch in batches)


def _sum(loss, only=None):
    """The sum over items of both heads, or of one: each head's mean, times its items."""

    def alone(head, weights):
        return tuple(w if place == head else w * 0 for place, w in enumerate(weights))

    def summed(params, batches):
        return sum(
            loss(params, x, y, alone(head, weights)) * weights[head].sum()
            for x, y, weights in batches
            for head in ((0, 1) if only is None else (only,))
        )

    return summed


def _items(batches, head):
    """The items that a head has in these micro-batches."""
    return sum(weights[head].sum() for *_, weights in batches)


def _divided(grads, by):
    return jax.tree.map(lambda grad: (grad / by).astype(grad.dtype), grads)


def _pmap(devices):
    """Inside, a gradient is the rank's own."""
    return partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)


def _on_two_axes(reduced, loss, params, batches, devices):
    """The rank's own gradients on a mesh of two axes, reduced as a function of path and array."""
    world, pair = len(devices), 2 if len(devices) % 2 == 0 else 1
    axes = ("data", "expert")
    sizes = (world // pair, pair)
    mesh = jax.make_mesh(sizes, axes, (AxisType.Auto, AxisType.Auto), devices=devices)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P(axes)), out_specs=P())
    def step(params, batches):
        mine = jax.tree.map(lambda x: x.squeeze(0), batches)
        varying = lax.pcast(params, axes, to="varying")
        return jax.tree_util.tree_map_with_path(reduced, jax.grad(_total(loss))(varying, mine))

    return step(params, batches)
