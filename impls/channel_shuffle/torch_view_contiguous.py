"""Shuffle channels by two views around one contiguous copy.

torchvision.models.shufflenetv2.channel_shuffle, where `.contiguous()` makes the copy.
"""

import torch
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="copy")
def torch_view_contiguous(x, groups: int):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.unflatten(1, (groups, channels // groups))
    # `.contiguous()` would hand back x's own memory for g = 1 and g = C.
    return parts.transpose(1, 2).clone(memory_format=torch.contiguous_format).view(x.shape)
