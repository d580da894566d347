"""Originals in which one step after another may be done otherwise."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Standard(nn.Conv2d):
    """A convolution whose kernel is standardised."""

    def forward(self, x):
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-5)
        return F.conv2d(x, weight, self.bias, padding=1)


class Upscaler(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = Standard(3, 8, 3)
        self.norm = nn.GroupNorm(2, 8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.grouped(F.leaky_relu(self.norm(self.conv(x)), 0.2)))


class Bottleneck(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.down, self.relu = nn.Conv2d(4, 8, 1, 2, bias=False), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.down(x)
        return self.relu(y)


class Attention(nn.Module):
    """Keys of a memory, scores that are masked, and positions."""

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(width), heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, 12), nn.Linear(12, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x, memory):
        n, length, width = x.shape
        half = width // 2
        rates = 10000.0 ** -(torch.arange(half, dtype=x.dtype) / (half - 1))
        angles = torch.arange(length, dtype=x.dtype)[:, None] * rates
        x = x + torch.cat((angles.sin(), angles.cos()), -1)
        y = self.norm(x)
        q, k, v = (
            f(z).reshape(n, length, self.heads, -1).transpose(1, 2)
            for f, z in ((self.q, y), (self.k, memory), (self.v, memory))
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads)
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
        y = torch.softmax(scores, -1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(n, length, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Recurrent(nn.Module):
    def __init__(self, kind, **rest):
        super().__init__()
        self.rnn, self.fc = kind(4, 5, batch_first=True, **rest), nn.Linear(5 * (1 + bool(rest)), 3)

    def forward(self, x):
        return self.fc(self.rnn(x)[0])


class Scored(nn.Module):
    """Experts, distances, sums and a resize, in code without modules."""

    def __init__(self):
        super().__init__()
        self.up, self.gate, self.experts = nn.Linear(6, 6), nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x):
        y = F.layer_norm(self.up(x), (6,))
        y = F.gelu(y) * x
        weights, places = torch.topk(torch.softmax(self.gate(y), -1), 2)
        weights = torch.zeros(x.shape[0], 4, dtype=x.dtype).scatter(-1, places, weights)
        scores = (weights * self.experts(y)).sum(-1)
        return F.normalize(y, dim=-1), scores, scores[:, None] - scores[None, :]


class Resized(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        y = F.interpolate(self.conv1(x), scale_factor=0.5, mode="bilinear", align_corners=False)
        return (
            self.conv2(F.interpolate(y, scale_factor=4, mode="nearest")) * torch.sigmoid(y).mean()
        )


class Latent(nn.Module):
    """A gated latent that becomes an image, and a sequence that becomes a row."""

    def __init__(self):
        super().__init__()
        self.gate, self.up, self.act = nn.Linear(6, 12), nn.Linear(6, 12), nn.SiLU()
        self.conv, self.head = nn.Conv2d(3, 2, 3, padding=1), nn.Linear(2 * 4, 2)

    def forward(self, x):
        y = self.act(self.gate(x)) * self.up(x)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)
        y = self.conv(y.view(-1, 3, 2, 2)).flatten(2)
        return torch.log_softmax(self.head(y.flatten(1)), -1)


def upscaler():
    return Upscaler()


def bottleneck():
    return Bottleneck()


def attention():
    return Attention()


def lstm():
    return Recurrent(nn.LSTM)


def bilstm():
    return Recurrent(nn.LSTM, bidirectional=True)


def gru():
    return Recurrent(nn.GRU)


def scored():
    return Scored()


def resized():
    return Resized()


def latent():
    return Latent()
