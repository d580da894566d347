"""Channel shuffle as a convolution whose windows are the groups."""

import torch
import torch.nn.functional as F

import conformance


@conformance.implementation("channel_shuffle", framework="torch", promise="arithmetic")
def torch_grouped_convolution(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels with a one-hot kernel that steps along them from group to group.

    Source: S1: at window i, filter j picks channel j of group i, which becomes channel j·g + i.

    Args:
        x: (N, C, *spatial), of any dtype that conv2d takes; finite.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> torch_grouped_convolution(torch.arange(6).reshape(1, 6, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
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
