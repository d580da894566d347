"""Shuffle channels by seeing them as (g, C/g) and flattening (C/g, g).

arXiv:1707.01083 (ShuffleNet), section 3.1.
"""

import torch
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="copy")
def torch_reshape(x, groups: int):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(x.shape[0], groups, channels // groups, *x.shape[2:])
    # reshape alone copies only where it must, and for g = 1 and g = C it need not.
    return parts.transpose(1, 2).clone(memory_format=torch.contiguous_format).reshape(x.shape)
