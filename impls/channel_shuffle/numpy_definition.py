"""Shuffle channels by copying each from where the definition says.

S1: out[:, k] = x[:, (k mod g)·(C/g) + ⌊k/g⌋].
"""

import numpy as np
from conformance import implementation


@implementation("channel_shuffle", framework="numpy", promise="copy")
def numpy_definition(x, groups):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    out = np.empty_like(x)
    for k in range(channels):
        out[:, k] = x[:, (k % groups) * (channels // groups) + k // groups]
    return out
