"""Means over whole steps and over micro-batches as people get them wrong in JAX.

conformance run --adapter tests/wrong/gradient_mean_jax_steps.py 'gradient_mean/jax_local_*'

What stands before two underscores is the mistake, what stands after them tells two forms of it
apart. The same mistakes in torch stand in the same order in gradient_mean_torch_steps.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

import conformance


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_divided_twice__by_the_count_and_by_pmean(loss, params, batches, devices):
    # Gradients are divided by the count of all ranks; pmean divides by W.
    def grads(params, mine):
        items = lax.psum(_items(mine), "ranks")
        return _divided(jax.grad(_sum(loss))(params, mine), items)

    return _averaged(grads, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_sum_loss__of_tokens(loss, params, batches, devices):
    # Sums are differentiated, and the count is dropped on the way.
    return _averaged(jax.grad(_sum(loss)), params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_sum_loss__of_tokens_averaged_over_micro_batches(loss, params, batches, devices):
    # "A later stage normalises", which this trainer has not (AI-Hypercomputer/maxtext#3040).
    def grads(params, mine):
        return _divided(jax.grad(_sum(loss))(params, mine), len(mine))

    return _averaged(grads, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax", micro_batches="mean")
def jax_accumulation_unscaled__never_divided(loss, params, batches, devices):
    # Gradients add up, and nobody divides by K.
    return _averaged(jax.grad(_total(loss)), params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax", micro_batches="mean")
def jax_accumulation_unscaled__divided_in_two_places(loss, params, batches, devices):
    # optax.MultiSteps averages what is divided by K already.
    dtype = jnp.result_type(*jax.tree.leaves(params))
    accumulation = optax.MultiSteps(optax.identity(), len(batches), accumulator_dtype=dtype)

    def grads(params, mine):
        state = accumulation.init(params)
        for batch in mine:
            own = jax.grad(lambda params, batch=batch: loss(params, *batch) / len(mine))(params)
            grads, state = accumulation.update(own, state)
        return grads

    return _averaged(grads, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_last_micro_batch_only__accumulator_emptied(loss, params, batches, devices):
    # The carry of the scan is made anew in its body.
    def grads(params, mine):
        grads = jax.tree.map(jnp.zeros_like, params)
        for batch in mine:
            emptied = jax.tree.map(jnp.zeros_like, grads)
            grads = jax.tree.map(jnp.add, emptied, jax.grad(loss)(params, *batch))
        return grads

    return _averaged(grads, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax")
def jax_synchronised_too_early(loss, params, batches, devices):
    # pmean stands after the first micro-batch, and what follows is added to it.
    @_pmap(devices)
    def step(params, mine):
        first, *others = mine
        grads = lax.pmean(jax.grad(loss)(params, *first), "ranks")
        for batch in others:
            grads = jax.tree.map(jnp.add, grads, jax.grad(loss)(params, *batch))
        return grads

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", micro_batches="mean", steps="several")
def jax_short_window_divided_by_k(loss, params, windows, devices):
    # The number of micro-batches is a constant of the program, and the last window is shorter.
    k = max(map(len, windows))

    def grads(params, mine):
        return _divided(jax.grad(_total(loss))(params, mine), k)

    for batches in windows:
        yield _averaged(grads, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax", steps="several")
def jax_stale_gradient(loss, params, windows, devices):
    # The accumulator goes through all steps, and is never set to zero.
    total = jax.tree.map(jnp.zeros_like, params)
    for batches in windows:
        grads = _averaged(jax.grad(_total(loss)), params, batches, devices)
        total = jax.tree.map(jnp.add, total, grads)
        yield total


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_mean_of_micro_means(loss, params, batches, devices):
    # optax.MultiSteps averages the micro-batches' own token means (ml-explore/mlx-lm#1544).
    dtype = jnp.result_type(*jax.tree.leaves(params))
    accumulation = optax.MultiSteps(optax.identity(), len(batches), accumulator_dtype=dtype)

    def grads(params, mine):
        state = accumulation.init(params)
        for batch in mine:
            grads, state = accumulation.update(jax.grad(loss)(params, *batch), state)
        return grads

    return _averaged(grads, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_mean_of_micro_means__over_ranks_alone(loss, params, batches, devices):
    # pmean of masked means, which micro-batches add up.
    return _averaged(jax.grad(_total(loss)), params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_mean_of_micro_means__of_all_ranks(loss, params, batches, devices):
    # Ranks are counted together, micro-batches apart.
    @_pmap(devices)
    def step(params, mine):
        means = []
        for batch in mine:
            grads, items = lax.psum(
                (jax.grad(_sum(loss))(params, [batch]), _items([batch])), "ranks"
            )
            means.append(_divided(grads, jnp.maximum(items, 2.0**-8)))
        return _divided(jax.tree.map(lambda *grads: sum(grads), *means), len(mine))

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_local_count(loss, params, batches, devices):
    # pmean of each device's own masked mean (huggingface/transformers#19494).
    def grads(params, mine):
        own = jnp.maximum(_items(mine), 2.0**-8)
        return _divided(jax.grad(_sum(loss))(params, mine), own)

    return _averaged(grads, params, batches, devices)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_sample_share_for_token_share(loss, params, batches, devices):
    # Micro-batches are weighed by their sequences; each loss is a mean over its own tokens.
    def sequences(batch):
        weights = batch[-1]
        return (weights.reshape(len(weights), -1).sum(1) > 0).sum().astype(weights.dtype)

    @_pmap(devices)
    def step(params, mine):
        def shared(params):
            return sum(loss(params, *batch) * sequences(batch) for batch in mine)

        total = sum(map(sequences, mine))
        grads, total = lax.psum((jax.grad(shared)(params), total), "ranks")
        return _divided(grads, total)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_other_windows_count(loss, params, batches, devices):
    # The count is that of the first micro-batch, times K.
    @_pmap(devices)
    def step(params, mine):
        items = _items(mine[:1]) * len(mine)
        grads, items = lax.psum((jax.grad(_sum(loss))(params, mine), items), "ranks")
        return _divided(grads, jnp.where(items == 0, jnp.inf, items))

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean", steps="several")
def jax_other_windows_count__of_the_step_before(loss, params, windows, devices):
    # The count is logged after the step, and used in the next one.
    @_pmap(devices)
    def step(params, mine):
        return lax.psum((jax.grad(_sum(loss))(params, mine), _items(mine)), "ranks")

    items = None
    for batches in windows:
        grads, own = step(params, batches)
        yield _divided(grads, own if items is None else items)
        items = own


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_shifted_labels_counted(loss, params, batches, devices):
    # Labels are counted before the shift: the last position of every sequence has no next token.
    sequences = sum(int((weights.sum(-1) > 0).sum()) for *_, weights in batches)

    @_pmap(devices)
    def step(params, mine):
        grads, items = lax.psum((jax.grad(_sum(loss))(params, mine), _items(mine)), "ranks")
        return _divided(grads, items + sequences)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_world_left_in(loss, params, batches, devices):
    # The factor against a pmean, before a psum.
    @_pmap(devices)
    def step(params, mine):
        grads, items = lax.psum((jax.grad(_sum(loss))(params, mine), _items(mine)), "ranks")
        return jax.tree.map(lambda g: g * (len(devices) / items), grads)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_micro_batches_left_in(loss, params, batches, devices):
    # The factor against a MultiSteps that averages; this sum does not.
    @_pmap(devices)
    def step(params, mine):
        grads, items = lax.psum((jax.grad(_sum(loss))(params, mine), _items(mine)), "ranks")
        return jax.tree.map(lambda g: g * (len(mine) / items), grads)

    return step(params, batches)


@conformance.implementation("gradient_mean", framework="jax", promise="step_mean")
def jax_padding_counted__mask_of_tokens_ignored(loss, params, batches, devices):
    # Whole sequences are left out where they are padding, and tokens never are.
    whole = [
        (x, y, jnp.ones_like(w) * (w.sum(-1, keepdims=True) > 0 if w.ndim > 2 else w))
        for x, y, w in batches
    ]

    @_pmap(devices)
    def step(params, mine):
        grads, items = lax.psum((jax.grad(_sum(loss))(params, mine), _items(mine)), "ranks")
        return _divided(grads, items)

    return step(params, whole)


def _total(loss):
    """The loss of several micro-batches: theirs add up."""
    return lambda params, batches: sum(loss(params, *batch) for batch in batches)


def _sum(loss):
    """The sum over items: means, times what they were divided by."""
    return lambda params, batches: sum(loss(params, *b) * b[-1].sum() for b in batches)


def _items(batches):
    """The items of these micro-batches."""
    return sum(weights.sum() for *_, weights in batches)


def _divided(grads, by):
    return jax.tree.map(lambda grad: (grad / by).astype(grad.dtype), grads)


def _pmap(devices):
    """Inside, a gradient is the rank's own."""
    return partial(jax.pmap, axis_name="ranks", in_axes=(None, 0), out_axes=None, devices=devices)


def _averaged(grads, params, batches, devices):
    """The mean over ranks of what each computes."""

    @_pmap(devices)
    def step(params, mine):
        return lax.pmean(grads(params, mine), "ranks")

    return step(params, batches)
