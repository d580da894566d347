"""The original: a block after ShuffleNet, small, with one layer of each kind that ports get wrong.

grouped 1×1 convolution → batch norm → gelu → channel shuffle → depthwise 3×3 convolution,
stride 2 → batch norm → max pool → flatten → dense → gelu → dense
"""

import torch
from torch import nn


class Block(nn.Module):
    """(N, 6, 12, 12) to (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(6, 12, 1, groups=3, bias=False)
        self.norm1 = nn.BatchNorm2d(12)
        self.act = nn.GELU()
        self.shuffle = nn.ChannelShuffle(3)
        self.depthwise = nn.Conv2d(12, 12, 3, stride=2, padding=1, groups=12, bias=False)
        self.norm2 = nn.BatchNorm2d(12)
        self.pool = nn.MaxPool2d(3)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(48, 48)
        self.act2 = nn.GELU()
        self.head = nn.Linear(48, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.shuffle(self.act(self.norm1(self.expand(x))))
        x = self.pool(self.norm2(self.depthwise(x)))
        return self.head(self.act2(self.hidden(self.flatten(x))))


def block() -> nn.Module:
    """What `torch:examples/ports/torch_block.py:block` names."""
    return Block()
