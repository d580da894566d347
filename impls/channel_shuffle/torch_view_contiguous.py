"""Channel shuffle as two views around one contiguous copy."""

import torch

import conformance


@conformance.implementation("channel_shuffle", framework="torch", promise="copy")
def torch_view_contiguous(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels by viewing them as (g, C/g), transposing, and copying.

    Source: torchvision.models.shufflenetv2.channel_shuffle, where `.contiguous()` makes the copy.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype, in memory of its own.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> torch_view_contiguous(torch.arange(6).reshape(1, 6, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.unflatten(1, (groups, channels // groups))
    # `.contiguous()` would hand back x's own memory for g = 1 and g = C.
    return parts.transpose(1, 2).clone(memory_format=torch.contiguous_format).view(x.shape)
