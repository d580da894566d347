"""Shuffle channels by selecting them in their new order.

S1: the input channel of output channel k is element k of `order`.
https://pytorch.org/docs/stable/generated/torch.index_select.html
"""

import torch
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="copy")
def torch_index_select(x, groups: int):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = torch.arange(channels, device=x.device).view(groups, -1).t().flatten()
    return x.index_select(1, order)
