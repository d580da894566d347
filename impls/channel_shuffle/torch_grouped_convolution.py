"""Shuffle channels with a one-hot kernel that steps along them from group to group.

S1: at window i, filter j picks channel j of group i, which becomes channel j·g + i. Inputs are
finite: 0 · ∞ is NaN.
https://pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html
"""

import torch
import torch.nn.functional as F
from conformance import implementation


@implementation("channel_shuffle", framework="torch", promise="arithmetic")
def torch_grouped_convolution(x, groups: int):
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    # torch convolves complex numbers by three real products, and their differences round.
    real = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    if real.numel() == 0:
        return x.clone()  # conv2d refuses an empty image
    image = real.flatten(2).unsqueeze(1)  # (N, 1, C, L): the channels are the height
    size = channels // groups
    kernel = torch.eye(size, dtype=real.dtype, device=x.device).view(size, 1, size, 1)
    out = F.conv2d(image, kernel, stride=(size, 1)).reshape(real.shape)  # of (N, C/g, g, L)
    return torch.view_as_complex(out) if x.is_complex() else out
