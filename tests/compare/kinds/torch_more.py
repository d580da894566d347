"""Originals of kinds that people port: attention, complex numbers, graphs, tied tables."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Heads(nn.Module):
    """Fused queries, keys and values, as in timm."""

    def __init__(self, d=8, h=2):
        super().__init__()
        self.qkv, self.proj, self.h = nn.Linear(d, 3 * d), nn.Linear(d, d), h

    def forward(self, x):
        n, size, d = x.shape
        q, k, v = (
            self.qkv(x).reshape(n, size, 3, self.h, d // self.h).permute(2, 0, 3, 1, 4).unbind(0)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(n, size, d))


class Conv1D(nn.Module):
    """GPT-2's linear map, whose weight is (in, out)."""

    def __init__(self, i, o):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(i, o)), nn.Parameter(torch.zeros(o))

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(
            *x.shape[:2], -1
        )


class Causal(nn.Module):
    def __init__(self, d=8, h=2):
        super().__init__()
        self.c_attn, self.c_proj, self.h = Conv1D(d, 3 * d), Conv1D(d, d), h
        self.register_buffer("seen", torch.ones(9, 9, dtype=torch.bool).tril())

    def forward(self, x):
        n, size, d = x.shape
        q, k, v = (t.view(n, size, self.h, -1).transpose(1, 2) for t in self.c_attn(x).split(d, 2))
        a = q @ k.transpose(2, 3) * (d // self.h) ** -0.5
        a = torch.where(self.seen[:size, :size], a, torch.finfo(a.dtype).min)
        return self.c_proj((F.softmax(a, -1) @ v).transpose(1, 2).reshape(n, size, d))


class Rotary(nn.Module):
    """Each of queries and keys is rotated as soon as it is there; by complex numbers, or halves."""

    def __init__(self, is_complex, d=8, h=2):
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.h, self.is_complex = h, is_complex

    def turned(self, x):
        n, size, _, d = x.shape
        t = torch.outer(torch.arange(size).float(), 10000.0 ** (-torch.arange(0, d, 2).float() / d))
        if self.is_complex:
            z = torch.view_as_complex(x.reshape(n, size, self.h, -1, 2))
            z = z * torch.polar(torch.ones_like(t), t)[None, :, None]
            return torch.view_as_real(z).flatten(3)
        e = torch.cat((t, t), -1)[None, :, None]
        other = torch.cat((-x[..., d // 2 :], x[..., : d // 2]), -1)
        return x * e.cos() + other * e.sin()

    def forward(self, x):
        n, size, d = x.shape
        q = self.turned(self.wq(x).view(n, size, self.h, -1))
        k = self.turned(self.wk(x).view(n, size, self.h, -1))
        q, k, v = (t.transpose(1, 2) for t in (q, k, self.wv(x).view(n, size, self.h, -1)))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(y.transpose(1, 2).reshape(n, size, d))


class Tied(nn.Module):
    """A table with a row for padding, which is the kernel of the output as well; masked scores."""

    def __init__(self, d=6, v=9):
        super().__init__()
        self.word, self.dense = nn.Embedding(v, d, padding_idx=0), nn.Linear(d, d)

    def forward(self, ids, mask=None):
        x = self.dense(self.word(ids))
        if mask is not None:
            a = x @ x.transpose(1, 2) + (1 - mask[:, None]) * torch.finfo(x.dtype).min
            x = F.softmax(a, -1) @ x
        return x @ self.word.weight.T


class Graph(nn.Module):
    """Attention over neighbours."""

    def __init__(self):
        super().__init__()
        self.lin, self.att = nn.Linear(5, 4, bias=False), nn.Linear(8, 1, bias=False)

    def forward(self, x, edges):
        h, n = self.lin(x), len(x)
        a = F.leaky_relu(self.att(torch.cat([h[edges[0]], h[edges[1]]], -1)), 0.2)[:, 0]
        most = torch.full((n,), float("-inf")).scatter_reduce(0, edges[1], a, "amax")
        p = torch.exp(a - most[edges[1]])
        p = p / torch.zeros(n).scatter_add(0, edges[1], p)[edges[1]]
        return torch.zeros(n, 4).index_add(0, edges[1], h[edges[0]] * p[:, None])


class Points(nn.Module):
    """A dense layer of each point, written as a convolution; causal padding."""

    def __init__(self):
        super().__init__()
        self.near, self.each = nn.Conv1d(3, 6, 3), nn.Conv1d(6, 4, 1)

    def forward(self, x):
        return self.each(torch.tanh(self.near(F.pad(x, (2, 0))))).max(2)[0]


class Mixed(nn.Module):
    """Takes channels first and gives them last."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)).permute(0, 2, 3, 1))


class Post(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense, self.norm, self.out = nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.norm(self.dense(x) + x))


def heads():
    return Heads()


def causal():
    return Causal()


def rotary():
    return Rotary(is_complex=False)


def rotary_complex():
    return Rotary(is_complex=True)


def tied():
    return Tied()


def graph():
    return Graph()


def points():
    return Points()


def mixed():
    return Mixed()


def post():
    return Post()


def half():
    return Post().bfloat16()


class Table(nn.Module):
    """A table that is computed as the model is made, in the type that it has."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 16), nn.Linear(16, 3)
        self.table = torch.sin(torch.arange(16).float() * 1.7) * np.pi

    def forward(self, x):
        return self.down(torch.tanh(self.up(x) + self.table))


def table():
    return Table()
