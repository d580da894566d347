"""Shuffle channels that lie last, by seeing them as (g, C/g) and flattening (C/g, g).

S15: S1 with the channel axis last.
"""

import torch
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="copy", layout="channels_last")
def torch_channels_last(x, groups: int):
    channels = x.shape[-1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.unflatten(-1, (groups, channels // groups))
    # `.contiguous()` would hand back x's own memory for g = 1 and g = C.
    return parts.transpose(-1, -2).clone(memory_format=torch.contiguous_format).view(x.shape)
