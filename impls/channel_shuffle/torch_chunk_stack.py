"""Shuffle channels by taking one channel of each group in turn.

S1: outputs j·g to j·g + g − 1 are the channels j of the groups.
https://pytorch.org/docs/stable/generated/torch.stack.html
"""

import torch
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="copy")
def torch_chunk_stack(x, groups: int):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    return torch.stack(x.chunk(groups, dim=1), dim=2).flatten(1, 2)
