"""Channel shuffle of channels that lie last."""

import torch

import conformance


@conformance.implementation(
    "channel_shuffle", framework="torch", promise="copy", layout="channels_last"
)
def torch_channels_last(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels by viewing the last axis as (g, C/g), transposing, and copying.

    Source: S15, which is S1 with the channel axis last.

    Args:
        x: (N, *spatial, C), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, *spatial, C), x's dtype, in memory of its own.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> torch_channels_last(torch.arange(6).reshape(1, 1, 6), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[-1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.unflatten(-1, (groups, channels // groups))
    # `.contiguous()` would hand back x's own memory for g = 1 and g = C.
    return parts.transpose(-1, -2).clone(memory_format=torch.contiguous_format).view(x.shape)
