"""Small torch models that the tests compare ports with."""

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    """Functions where others have modules, a residual, and a mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.silu(self.first(x))
        x = F.relu(x + self.norm(self.second(x)))
        return self.head(x.mean((2, 3)))


class Normed(nn.Module):
    """A layer norm between two dense layers."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.up = nn.Linear(5, 16)
        self.norm = nn.LayerNorm(16)
        self.down = nn.Linear(16, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.tanh(self.norm(self.up(x))))


class Odd(Normed):
    """A function that the suite has no model of."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.erfinv(torch.tanh(self.norm(self.up(x))) / 4))


class Stopped(Normed):
    """The gradient ends before the norm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.tanh(self.norm(self.up(x).detach())))


class Twice(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.same(torch.relu(self.same(x)))


class Bounded(nn.Module):
    """A ReLU6 whose bound no usual value reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.act = nn.LayerNorm(6), nn.ReLU6()
        self.out = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.act(self.norm(x)))


def bounded() -> nn.Module:
    return Bounded()


def grown() -> nn.Module:
    return nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1)


def residual() -> nn.Module:
    return Residual()


def normed() -> nn.Module:
    return Normed()


def odd() -> nn.Module:
    return Odd()


def stopped() -> nn.Module:
    return Stopped()


def twice() -> nn.Module:
    return Twice()


def with_argument(outputs: int) -> nn.Module:
    return Normed(outputs)


def raises() -> nn.Module:
    raise ValueError("no such checkpoint")


def no_model() -> object:
    return object()


def no_weights() -> nn.Module:
    return nn.ReLU()


model = nn.Linear(5, 3)
value = 3
