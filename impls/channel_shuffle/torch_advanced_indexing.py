"""Shuffle channels by indexing them with their new order.

S1: the input channel of output channel k is element k of `order`.
https://pytorch.org/docs/stable/tensor_view.html
"""

import torch
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="copy")
def torch_advanced_indexing(x, groups: int):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = torch.arange(channels, device=x.device).view(groups, -1).t().flatten()
    return x[:, order]
