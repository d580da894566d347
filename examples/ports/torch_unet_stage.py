"""The original: a stage of a U-Net, down by a pool, up by a transposed convolution, joined."""

import torch
from torch import nn


class Stage(nn.Module):
    """(N, 3, H, W) to (N, 2, H, W), for even H and W."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.down = nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.out = nn.Conv2d(8, 2, 1)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.relu(self.enter(x))
        x = self.relu(self.down(self.pool(kept)))
        return self.out(torch.cat((kept, self.up(x)), dim=1))


def stage() -> nn.Module:
    """What `torch:examples/ports/torch_unet_stage.py:stage` names."""
    return Stage()
