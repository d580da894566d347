"""Channel shuffle as people get it wrong in torch: a known mistake each, by whose name it goes.

conformance run --adapter tests/wrong/channel_shuffle_torch.py 'channel_shuffle/torch_inverse_*'

What stands before two underscores is the mistake, what stands after them tells two forms of it
apart. The same mistakes in JAX stand in the same order in channel_shuffle_jax.py.
"""

import torch

import conformance


@conformance.implementation("channel_shuffle", framework="torch")
def torch_inverse_groups(x, groups):
    # (C/g, g) is the inverse; (g, C/g) is meant (megvii-model/ShuffleNet-Series#17).
    n, c, *spatial = x.shape
    _check(c, groups)
    return x.reshape(n, c // groups, groups, *spatial).transpose(1, 2).clone().reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_inverse_groups__scattered(x, groups):
    # `order` says where each output channel comes from; this sends each input channel there.
    _check(x.shape[1], groups)
    order = torch.arange(x.shape[1]).reshape(groups, -1).T.flatten()
    out = torch.zeros_like(x)
    out[:, order] = x
    return out


@conformance.implementation("channel_shuffle", framework="torch")
def torch_no_transpose(x, groups):
    # Split into groups and joined again: the transpose between is forgotten.
    return _in_groups(x, groups).clone().reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_applied_twice(x, groups):
    # The block shuffles, and the code that calls the block shuffles again.
    return _shuffled(_shuffled(x, groups), groups)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_reversed_channels(x, groups):
    # A flip is not a shuffle.
    _check(x.shape[1], groups)
    return x.flip(1)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_reversed_in_groups(x, groups):
    # Flips the second axis of (g, C/g) where the two should change places.
    return _in_groups(x, groups).flip(2).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_flipped_groups(x, groups):
    # Flips the first axis of (g, C/g) where the two should change places.
    return _in_groups(x, groups).flip(1).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_rolled_by_groups(x, groups):
    # Every channel moves by g; the stride through them should be C/g.
    _check(x.shape[1], groups)
    return x.roll(groups, dims=1)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_shuffled_within_groups(x, groups):
    # "Rearranged inside the groups": no channel ever meets another group's.
    return _in_groups(x, groups).roll(1, dims=2).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="torch", layout="channels_last")
def torch_wrong_axis_channels_last(x, groups):
    # Code for (N, C, *spatial), given (N, *spatial, C): axis 1 is the height.
    return _shuffled(x, groups)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_wrong_axis_channels_first(x, groups):
    # Code for (N, *spatial, C), given (N, C, *spatial): the last axis is the width.
    *lead, width = x.shape
    return x.reshape(*lead, groups, width // groups).transpose(-1, -2).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_reinterpreted_layout(x, groups):
    # A channels-last buffer, read as if it were channel-first: a reshape where a permute is meant.
    buffer = x.movedim(1, -1).contiguous()
    return _shuffled(buffer.reshape(x.shape), groups)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_batch_folded(x, groups):
    # Without an axis for N the groups run through the whole batch: samples are mixed.
    n, c, *spatial = x.shape
    _check(c, groups)
    return x.reshape(groups, n * c // groups, *spatial).transpose(0, 1).clone().reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_first_sample_only(x, groups):
    # x[0] for x[:, …]: the other samples stay as they were.
    return torch.cat([_shuffled(x[:1], groups), x[1:]])


@conformance.implementation("channel_shuffle", framework="torch")
def torch_forward_permutation_in_backward(x, groups):
    # Right forward; the backward uses the forward's own permutation, not its inverse.
    class Shuffle(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return _shuffled(x, groups)

        @staticmethod
        def backward(ctx, cotangent):
            return _shuffled(cotangent, groups)

    return Shuffle.apply(x)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_gradient_stopped__detached(x, groups):
    # A detach that was put there to print the channels once, and stayed.
    return _shuffled(x.detach(), groups)


@conformance.implementation("channel_shuffle", framework="torch")
@torch.no_grad()
def torch_gradient_stopped__no_grad(x, groups):
    # A shuffle has no parameters, "so it needs no graph".
    return _shuffled(x, groups)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_aliased_or_mutated__aliased(x, groups):
    # A reshape copies only where it must: for g = 1 and g = C the input itself comes back.
    return _in_groups(x, groups).transpose(1, 2).reshape(x.shape)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_aliased_or_mutated__mutated(x, groups):
    # In place, to save memory; whoever reads the input afterwards (a skip connection) reads this.
    return x.copy_(_shuffled(x, groups))


@conformance.implementation("channel_shuffle", framework="torch")
def torch_value_changing_copy(x, groups):
    # Adds every channel into a zero: 0 + −0.0 is 0, and a signalling NaN comes out quiet.
    _check(x.shape[1], groups)
    order = torch.arange(x.shape[1]).reshape(-1, groups).T.flatten()
    return torch.zeros_like(x).index_add(1, order, x)


@conformance.implementation("channel_shuffle", framework="torch")
def torch_indivisible_accepted(x, groups):
    # The formula, with a division that floors: where g does not divide C it picks some channels.
    if groups <= 0:
        raise ValueError(f"{groups} groups")
    size = x.shape[1] // groups
    order = [(k % groups) * size + k // groups for k in range(x.shape[1])]
    return x[:, order]


@conformance.implementation("channel_shuffle", framework="torch")
def torch_narrow_round_trip(x, groups):
    # What is wider goes through float32, "which is enough".
    if x.dtype != torch.float64:
        return _shuffled(x, groups)
    return _shuffled(x.float(), groups).double()


def _check(channels, groups):
    if groups <= 0 or channels % groups:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")


def _in_groups(x, groups):
    _check(x.shape[1], groups)
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])


def _shuffled(x, groups):
    """The right shuffle."""
    return _in_groups(x, groups).transpose(1, 2).clone().reshape(x.shape)
