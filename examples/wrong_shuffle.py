"""Channel shuffles as people get them wrong: an adapter on which the suite shows what it says.

conformance run --adapter examples/wrong_shuffle.py 'channel_shuffle/wrong_*'
"""

import numpy as np

import conformance


@conformance.implementation("channel_shuffle", framework="numpy")
def wrong_inverse(x, groups):
    # (C//g, g) is the inverse; (g, C//g) is meant.
    n, c, *spatial = x.shape
    if groups <= 0 or c % groups:
        raise ValueError(f"{groups} groups do not divide {c} channels")
    return x.reshape(n, c // groups, groups, *spatial).swapaxes(1, 2).reshape(x.shape).copy()


@conformance.implementation("channel_shuffle", framework="numpy")
def wrong_in_groups(x, groups):
    # "Rearranged inside the groups": no channel ever meets another group's.
    n, c, *spatial = x.shape
    if groups <= 0 or c % groups:
        raise ValueError(f"{groups} groups do not divide {c} channels")
    return np.roll(x.reshape(n, groups, c // groups, *spatial), 1, axis=2).reshape(x.shape).copy()


@conformance.implementation("channel_shuffle", framework="torch")
def wrong_gradient(x, groups):
    # Right forward; the backward uses the forward's own permutation.
    import torch

    class Shuffle(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.nn.functional.channel_shuffle(x, groups)

        @staticmethod
        def backward(ctx, cotangent):
            return torch.nn.functional.channel_shuffle(cotangent, groups)

    return Shuffle.apply(x)
