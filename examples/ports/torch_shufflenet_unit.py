"""The original: ShuffleNetV2's unit of stride 1, half of the channels kept as they are."""

import torch
from torch import nn


def channel_shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """(N, g, C/g, H, W), transposed, flat again."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Unit(nn.Module):
    """(N, 12, H, W) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(6, 6, 1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 6, 1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, rest = x.chunk(2, dim=1)
        return channel_shuffle(torch.cat((kept, self.branch(rest)), dim=1), 2)


def unit() -> nn.Module:
    """What `torch:examples/ports/torch_shufflenet_unit.py:unit` names."""
    return Unit()
