"""Shuffle channels by multiplying them with the rows of a permutation matrix.

S1: row k is one at the input channel of output channel k. Inputs are finite: 0 · ∞ is NaN.
https://pytorch.org/docs/stable/generated/torch.matmul.html
"""

import torch
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="arithmetic")
def torch_one_hot_matmul(x, groups: int):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = torch.arange(channels, device=x.device).view(groups, -1).t().flatten()
    one_hot = torch.eye(channels, dtype=x.dtype, device=x.device)[order]
    return (one_hot @ x.flatten(2)).reshape(x.shape)
