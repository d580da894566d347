"""Originals over sequences: causal convolutions, shared heads, shifted windows, a last norm."""

import torch
import torch.nn.functional as F
from torch import nn


class Temporal(nn.Module):
    """One convolution is padded on both sides and cut, the other is padded before it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(4, 6, 3, padding=4, dilation=2), nn.Conv1d(6, 3, 3)

    def forward(self, x):
        y = F.relu(self.first(x)[..., :-4])
        return self.second(F.pad(y, (2, 0)))


class Shared(nn.Module):
    """Two heads of keys and values for four of queries."""

    def __init__(self, is_expanded, d=8):
        super().__init__()
        self.q, self.kv, self.o = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.is_expanded = is_expanded

    def repeated(self, t):
        if not self.is_expanded:
            return t.repeat_interleave(2, dim=1)
        n, h, size, d = t.shape
        return t[:, :, None].expand(n, h, 2, size, d).reshape(n, 2 * h, size, d)

    def forward(self, x):
        n, size, d = x.shape
        q = self.q(x).view(n, size, 4, -1).transpose(1, 2)
        k, v = self.kv(x).view(n, size, 2, 2, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, self.repeated(k), self.repeated(v))
        return self.o(y.transpose(1, 2).reshape(n, size, d))


class Shifted(nn.Module):
    """Windows of two places, shifted by one and back."""

    def __init__(self, d=4):
        super().__init__()
        self.norm, self.mix, self.last = nn.LayerNorm(d), nn.Linear(2 * d, 2 * d), nn.LayerNorm(d)
        self.head = nn.Linear(d, 3)

    def forward(self, x):
        y = torch.roll(self.norm(x), -1, 1)
        y = self.mix(y.reshape(x.shape[0], -1, 2 * x.shape[2])).reshape(x.shape)
        return self.head(self.last(x + torch.roll(y, 1, 1)))


class Fourier(nn.Module):
    """Mixes places and channels by a transform; keeps half of another one."""

    def __init__(self, d=4):
        super().__init__()
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 3)
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        y = self.norm(x + torch.fft.fft2(x, dim=(-2, -1)).real)
        z = torch.fft.rfft(y, dim=1)[:, :2] * self.weight
        return self.head(y + torch.fft.irfft(z, n=x.shape[1], dim=1)), torch.fft.fft(x)


def fourier():
    return Fourier()


class Deep(nn.Sequential):
    """So many norms over few samples that errors have no end behind a mistake."""

    def __init__(self, d=6):
        super().__init__(*(
            nn.Sequential(nn.Linear(d, d), nn.BatchNorm1d(d), nn.GELU()) for _ in range(24)
        ))  # fmt: skip


def deep():
    return Deep()


def temporal():
    return Temporal()


def shared():
    return Shared(is_expanded=False)


def expanded():
    return Shared(is_expanded=True)


def shifted():
    return Shifted()
