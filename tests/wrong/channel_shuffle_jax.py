"""Channel shuffle as people get it wrong in JAX: a known mistake each, by whose name it goes.

conformance run --adapter tests/wrong/channel_shuffle_jax.py 'channel_shuffle/jax_inverse_*'

What stands before two underscores is the mistake, what stands after them tells two forms of it
apart. The same mistakes in torch stand in the same order in channel_shuffle_torch.py.
"""

import jax
import jax.numpy as jnp

import conformance


@conformance.implementation("channel_shuffle", framework="jax")
def jax_inverse_groups(x, groups):
    # (C/g, g) is the inverse; (g, C/g) is meant (megvii-model/ShuffleNet-Series#17).
    n, c, *spatial = x.shape
    _check(c, groups)
    return x.reshape(n, c // groups, groups, *spatial).swapaxes(1, 2).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_inverse_groups__scattered(x, groups):
    # `order` says where each output channel comes from; this sends each input channel there.
    _check(x.shape[1], groups)
    order = jnp.arange(x.shape[1]).reshape(groups, -1).T.ravel()
    out = jnp.zeros_like(x)
    return out.at[:, order].set(x)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_no_transpose(x, groups):
    # Split into groups and joined again: the transpose between is forgotten.
    return _in_groups(x, groups).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_applied_twice(x, groups):
    # The block shuffles, and the code that calls the block shuffles again.
    return _shuffled(_shuffled(x, groups), groups)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_reversed_channels(x, groups):
    # A flip is not a shuffle.
    _check(x.shape[1], groups)
    return jnp.flip(x, 1)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_reversed_in_groups(x, groups):
    # Flips the second axis of (g, C/g) where the two should change places.
    return jnp.flip(_in_groups(x, groups), 2).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_flipped_groups(x, groups):
    # Flips the first axis of (g, C/g) where the two should change places.
    return jnp.flip(_in_groups(x, groups), 1).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_rolled_by_groups(x, groups):
    # Every channel moves by g; the stride through them should be C/g.
    _check(x.shape[1], groups)
    return jnp.roll(x, groups, axis=1)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_shuffled_within_groups(x, groups):
    # "Rearranged inside the groups": no channel ever meets another group's.
    return jnp.roll(_in_groups(x, groups), 1, axis=2).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="jax", layout="channels_last")
def jax_wrong_axis_channels_last(x, groups):
    # Code for (N, C, *spatial), given (N, *spatial, C): axis 1 is the height.
    return _shuffled(x, groups)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_wrong_axis_channels_first(x, groups):
    # Code for (N, *spatial, C), given (N, C, *spatial): the last axis is the width.
    *lead, width = x.shape
    return x.reshape(*lead, groups, width // groups).swapaxes(-1, -2).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_reinterpreted_layout(x, groups):
    # Channels-last data, read as if they were channel-first: a reshape where a transpose is meant.
    buffer = jnp.moveaxis(x, 1, -1)
    return _shuffled(buffer.reshape(x.shape), groups)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_batch_folded(x, groups):
    # Without an axis for N the groups run through the whole batch: samples are mixed.
    n, c, *spatial = x.shape
    _check(c, groups)
    return x.reshape(groups, n * c // groups, *spatial).swapaxes(0, 1).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_first_sample_only(x, groups):
    # x[0] for x[:, …]: the other samples stay as they were.
    return jnp.concatenate([_shuffled(x[:1], groups), x[1:]])


@conformance.implementation("channel_shuffle", framework="jax")
def jax_forward_permutation_in_backward(x, groups):
    # Right forward; the backward uses the forward's own permutation, not its inverse.
    @jax.custom_vjp
    def shuffle(x):
        return _shuffled(x, groups)

    def forward(x):
        return shuffle(x), None

    def backward(_, cotangent):
        return (_shuffled(cotangent, groups),)

    shuffle.defvjp(forward, backward)
    return shuffle(x)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_gradient_stopped(x, groups):
    # As a detach in the original looked, which there was on another tensor.
    return _shuffled(jax.lax.stop_gradient(x), groups)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_value_changing_copy(x, groups):
    # Adds every channel into a zero: 0 + −0.0 is 0, and a signalling NaN comes out quiet.
    _check(x.shape[1], groups)
    order = jnp.arange(x.shape[1]).reshape(-1, groups).T.ravel()
    return jnp.zeros_like(x).at[:, order].add(x)


@conformance.implementation("channel_shuffle", framework="jax")
def jax_indivisible_accepted(x, groups):
    # The formula, with a division that floors: where g does not divide C it picks some channels.
    if groups <= 0:
        raise ValueError(f"{groups} groups")
    size = x.shape[1] // groups
    order = [(k % groups) * size + k // groups for k in range(x.shape[1])]
    return x[:, jnp.array(order)]


@conformance.implementation("channel_shuffle", framework="jax")
def jax_narrow_round_trip(x, groups):
    # What is wider goes through float32, as everything does in JAX where x64 is off.
    if x.dtype != jnp.float64:
        return _shuffled(x, groups)
    return _shuffled(x.astype(jnp.float32), groups).astype(jnp.float64)


def _check(channels, groups):
    if groups <= 0 or channels % groups:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")


def _in_groups(x, groups):
    _check(x.shape[1], groups)
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _shuffled(x, groups):
    """The right shuffle."""
    return _in_groups(x, groups).swapaxes(1, 2).reshape(x.shape)
