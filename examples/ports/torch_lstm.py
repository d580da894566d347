"""The original: torch's LSTM and a dense layer on its last step."""

import torch
from torch import nn


class Reader(nn.Module):
    """(N, L, 5) to (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def reader() -> nn.Module:
    """What `torch:examples/ports/torch_lstm.py:reader` names."""
    return Reader()
