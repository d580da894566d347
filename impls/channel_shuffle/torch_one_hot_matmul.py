"""Channel shuffle as a product with a permutation matrix."""

import torch

import conformance


@conformance.implementation("channel_shuffle", framework="torch", promise="arithmetic")
def torch_one_hot_matmul(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels by multiplying them with one-hot rows.

    Source: S1: row k is one at the input channel of output channel k.

    Args:
        x: (N, C, *spatial), of any dtype that matmul takes; finite.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> torch_one_hot_matmul(torch.arange(6).reshape(1, 6, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = torch.arange(channels, device=x.device).view(groups, -1).t().flatten()
    one_hot = torch.eye(channels, dtype=x.dtype, device=x.device)[order]
    return (one_hot @ x.flatten(2)).reshape(x.shape)
