"""Channel shuffle as a reshape, a transpose and a reshape."""

import torch

import conformance


@conformance.implementation("channel_shuffle", framework="torch", promise="copy")
def torch_reshape(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels by seeing them as (g, C/g) and flattening (C/g, g).

    Source: arXiv:1707.01083 (ShuffleNet), section 3.1.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype, in memory of its own.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> torch_reshape(torch.arange(6).reshape(1, 6, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = x.reshape(x.shape[0], groups, channels // groups, *x.shape[2:])
    # reshape alone copies only where it must, and for g = 1 and g = C it need not.
    return parts.transpose(1, 2).clone(memory_format=torch.contiguous_format).reshape(x.shape)
