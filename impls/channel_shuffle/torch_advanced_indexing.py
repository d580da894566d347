"""Channel shuffle as advanced indexing."""

import torch

import conformance


@conformance.implementation("channel_shuffle", framework="torch", promise="copy")
def torch_advanced_indexing(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels by indexing them with their new order.

    Source: S1: the input channel of output channel k is element k of `order`.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype, in memory of its own.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> torch_advanced_indexing(torch.arange(6).reshape(1, 6, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    order = torch.arange(channels, device=x.device).view(groups, -1).t().flatten()
    return x[:, order]
