"""Channel shuffle as a stack of the groups."""

import torch

import conformance


@conformance.implementation("channel_shuffle", framework="torch", promise="copy")
def torch_chunk_stack(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels by taking one channel of each group in turn.

    Source: S1: outputs j·g to j·g + g − 1 are the channels j of the groups.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype, in memory of its own.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> torch_chunk_stack(torch.arange(6).reshape(1, 6, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    return torch.stack(x.chunk(groups, dim=1), dim=2).flatten(1, 2)
