"""Shuffle channels with `torch.nn.functional.channel_shuffle`.

The output keeps x's memory format. A dtype that the operator lacks is a NotImplementedError.
torch 2.13.0, aten/src/ATen/native/ChanelShuffle.cpp, `channel_shuffle`.
"""

import torch.nn.functional as F
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="native")
def torch_functional(x, groups: int):
    return F.channel_shuffle(x, groups)
