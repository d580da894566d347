"""Gradient averages as people get them wrong in JAX: a known mistake each, by whose name it goes.

conformance run --adapter tests/wrong/gradient_mean_jax.py 'gradient_mean/jax_not_divided*'

What stands before two underscores is the mistake, what stands after them tells two forms of it
apart. The same mistakes in torch stand in the same order in gradient_mean_torch.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import conformance


@conformance.implementation("gradient_mean", framework="jax")
def jax_not_divided(loss, params, batches, devices):
    # psum adds up; nobody divides by the number of devices.
    @_pmap(devices)
    def step(params, batches):
        return lax.psum(jax.grad(_total(loss))(params, batches), "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_not_divided__averaged_on_top_of_check_vma(loss, params, batches, devices):
    # With check_vma=True the gradient is summed over shards already: a pmean leaves the sum.
    @_shard_map(devices)
    def step(params, batches):
        return lax.pmean(jax.grad(_total(loss))(params, batches), "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_not_divided__psum_of_the_loss(loss, params, batches, devices):
    # A psum in the loss makes the rank's own gradient W times as large before it is averaged.
    @_pmap(devices)
    def step(params, batches):
        grads = jax.grad(lambda params: lax.psum(_total(loss)(params, batches), "ranks"))(params)
        return lax.pmean(grads, "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_divided_twice(loss, params, batches, devices):
    # pmean divides by the number of devices; the loss is divided by it as well.
    @_pmap(devices)
    def step(params, batches):
        grads = jax.grad(lambda params: _total(loss)(params, batches) / len(devices))(params)
        return lax.pmean(grads, "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_squared_world(loss, params, batches, devices):
    # With check_vma=True the gradient is summed over shards already; a psum sums W of those.
    @_shard_map(devices)
    def step(params, batches):
        return lax.psum(jax.grad(_total(loss))(params, batches), "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_shard_0_returned(loss, params, batches, devices):
    # Nothing checks that out_specs=P() is true: shard 0's gradient comes back.
    @_shard_map(devices, check_vma=False)
    def step(params, batches):
        return jax.grad(_total(loss))(params, batches)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_shard_0_returned__pmean_of_the_loss(loss, params, batches, devices):
    # Right with check_vma=True; without it the gradient of a pmean is the shard's own.
    @_shard_map(devices, check_vma=False)
    def step(params, batches):
        return jax.grad(lambda params: lax.pmean(_total(loss)(params, batches), "ranks"))(params)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_psum_loss_unsynchronised(loss, params, batches, devices):
    # The loss is summed over the ranks, its gradient is not: W times the rank's own
    # (jax-ml/jax#3970).
    @_pmap(devices)
    def step(params, batches):
        return jax.grad(lambda params: lax.psum(_total(loss)(params, batches), "ranks"))(params)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_sum_loss(loss, params, batches, devices):
    # As jnp.sum over the samples does: a batch counts as often as it has samples.
    def summed(params, x, y, weights):
        return loss(params, x, y, weights) * weights.sum()

    return _averaged(summed, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_accumulation_unscaled(loss, params, batches, devices):
    # Micro-batches add up here; optax.MultiSteps averages them unless use_grad_mean=False.
    dtype = jnp.result_type(*jax.tree.leaves(params))
    accumulation = optax.MultiSteps(optax.identity(), len(batches), accumulator_dtype=dtype)

    @_pmap(devices)
    def step(params, batches):
        state = accumulation.init(params)
        for batch in batches:
            grads, state = accumulation.update(jax.grad(loss)(params, *batch), state)
        return lax.pmean(grads, "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_last_micro_batch_only(loss, params, batches, devices):
    # The gradient of each micro-batch takes the place of the last one's.
    @_pmap(devices)
    def step(params, batches):
        for batch in batches:
            grads = jax.grad(loss)(params, *batch)
        return lax.pmean(grads, "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", promise="sample_mean")
def jax_mean_of_means(loss, params, batches, devices):
    # pmean averages ranks, and ranks have unequal numbers of samples.
    return _averaged(loss, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_padding_counted__by_the_length(loss, params, batches, devices):
    # (mask * losses).mean(): padding adds nothing to the sum, and is counted in its length.
    def padded(params, x, y, weights):
        return loss(params, x, y, weights) * weights.mean()

    return _averaged(padded, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_padding_counted__mask_ignored(loss, params, batches, devices):
    # Whoever forgets the mask trains on zeros, too.
    def unmasked(params, x, y, weights):
        return loss(params, x, y, jnp.ones_like(weights))

    return _averaged(unmasked, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_tail_dropped__cut_to_the_shortest(loss, params, batches, devices):
    # So that shards have one shape, all are as short as the one that has the fewest samples.
    def cut(batch):
        shortest = int(batch[-1].sum(axis=1).min())
        return jax.tree.map(lambda samples: samples[:, :shortest], batch)

    return _averaged(loss, params, [cut(batch) for batch in batches], devices)


@conformance.implementation("gradient_mean", framework="jax", promise="sample_mean")
def jax_tail_dropped__by_a_floored_size(loss, params, batches, devices):
    # batch[: N // W * W].reshape(W, N // W, …): what does not divide among the devices is left out.
    def cut(batch):
        samples = jax.tree.map(lambda padded: padded[batch[-1] == 1], batch)
        each = len(samples[-1]) // len(devices)
        shape = (len(devices), each)
        return jax.tree.map(
            lambda a: a[: len(devices) * each].reshape(*shape, *a.shape[1:]), samples
        )

    return _averaged(loss, params, [cut(batch) for batch in batches], devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_rank_missing(loss, params, batches, devices):
    # The sum over what was gathered begins with rank 1.
    @_pmap(devices)
    def step(params, batches):
        gathered = lax.all_gather(jax.grad(_total(loss))(params, batches), "ranks")
        return jax.tree.map(lambda grads: grads[1:].sum(axis=0) / len(devices), gathered)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_clipped_before_averaging(loss, params, batches, devices):
    # Every rank clips its own gradient, and then they are averaged.
    clip = optax.clip_by_global_norm(1.0)

    @_pmap(devices)
    def step(params, batches):
        grads, _ = clip.update(jax.grad(_total(loss))(params, batches), clip.init(params))
        return lax.pmean(grads, "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_compressed__float16(loss, params, batches, devices):
    # The all-reduce is of float16, with eleven bits.
    return _reduced_in(jnp.float16, loss, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_compressed__bfloat16(loss, params, batches, devices):
    # The all-reduce is of bfloat16, with eight bits.
    return _reduced_in(jnp.bfloat16, loss, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax", promise="sample_mean")
def jax_local_batch_statistics__whole_batch(loss, params, batches, devices):
    # Samples are weighed right, but a batch norm sees those of its device alone.
    @_pmap(devices)
    def step(params, batches):
        def weighed(params, x, y, weights):
            share = weights.sum() / lax.psum(weights.sum(), "ranks")
            return loss(params, x, y, weights) * share

        return lax.psum(jax.grad(_total(weighed))(params, batches), "ranks")

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", runs="virtual")
def jax_ranks_counted_in_dtype(loss, params, batches, devices):
    # A counter of the gradients' dtype: in bfloat16 256 + 1 is 256, in float16 2048 + 1 is 2048.
    @jax.jit
    def step(params, batches):
        def mean(grads):
            zero = jnp.zeros((), grads.dtype)
            count = lax.fori_loop(0, len(devices), lambda _, count: count + 1, zero)
            return (grads.astype(jnp.float64).sum(0) / count).astype(grads.dtype)

        return jax.tree.map(mean, _of_virtual_ranks(loss, params, batches))

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", runs="virtual")
def jax_summed_in_dtype__instead_of_float32(loss, params, batches, devices):
    # The running sum has the gradients' dtype: what is small beside it is rounded away.
    @jax.jit
    def step(params, batches):
        def mean(grads):
            total, _ = lax.scan(lambda t, g: (t + g, None), jnp.zeros_like(grads[0]), grads)
            return total / len(devices)

        return jax.tree.map(mean, _of_virtual_ranks(loss, params, batches))

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax")
def jax_pass_through(loss, params, batches, devices):
    # One device gets the whole batch: nothing is parallel.
    whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batches)
    return jax.jit(jax.grad(_total(loss)), device=devices[0])(params, whole)


def _of_virtual_ranks(loss, params, batches):
    """Every rank's own gradient (W, …) of each parameter, on one device."""
    return jax.vmap(jax.grad(_total(loss)), in_axes=(None, 0))(params, batches)


def _total(loss):
    """The loss of several micro-batches: theirs add up."""
    return lambda params, batches: sum(loss(params, *batch) for batch in batches)


def _pmap(devices):
    """Inside, a gradient is the rank's own."""
    return partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)


def _shard_map(devices, *, check_vma=True):
    """As `_pmap`; but with check_vma=True a gradient is summed over ranks already."""

    def mapped(step):
        def on_shard(params, batches):
            return step(params, jax.tree.map(lambda x: x.squeeze(0), batches))  # (1, n, …)

        return jax.jit(
            jax.shard_map(
                on_shard,
                mesh=Mesh(devices, ("ranks",)),
                in_specs=(P(), P("ranks")),
                out_specs=P(),
                check_vma=check_vma,
            )
        )

    return mapped


def _averaged(loss, params, batches, devices):
    """The right mean over ranks."""

    @_pmap(devices)
    def step(params, batches):
        return lax.pmean(jax.grad(_total(loss))(params, batches), "ranks")

    return step(params, batches)


def _reduced_in(dtype, loss, params, batches, devices):
    """The mean over ranks of what was cast to the dtype."""

    @_pmap(devices)
    def step(params, batches):
        grads = jax.grad(_total(loss))(params, batches)
        short = jax.tree.map(lambda grad: grad.astype(dtype), grads)
        mean = lax.pmean(short, "ranks")
        return jax.tree.map(lambda grad, like: grad.astype(like.dtype), mean, params)

    return step(params, batches)
