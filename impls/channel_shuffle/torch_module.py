"""Shuffle channels with `torch.nn.ChannelShuffle`.

The output keeps x's memory format. A dtype that the operator lacks is a NotImplementedError.
https://pytorch.org/docs/stable/generated/torch.nn.ChannelShuffle.html
"""

from conformance import implementation
from torch import nn


@implementation("channel_shuffle", framework="torch", promise="native")
def torch_module(x, groups: int):
    return nn.ChannelShuffle(groups)(x)
