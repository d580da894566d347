"""Shuffle channels by writing g and C/g as axes of their own, with einops.

https://einops.rocks, `rearrange`
"""

import einops
import torch
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="copy")
def torch_einops(x, groups: int):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = einops.rearrange(x, "n (g d) ... -> n d g ...", g=groups)
    # One pattern, "n (g d) ... -> n (d g) ...", would give x's own memory for g = 1 and g = C.
    parts = parts.clone(memory_format=torch.contiguous_format)
    return einops.rearrange(parts, "n d g ... -> n (d g) ...")
