"""Channel shuffle as PyTorch's own function."""

import torch
import torch.nn.functional as F

import conformance


@conformance.implementation("channel_shuffle", framework="torch", promise="native")
def torch_functional(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels with `torch.nn.functional.channel_shuffle`.

    Source: torch 2.13.0, aten/src/ATen/native/ChanelShuffle.cpp, channel_shuffle.

    Args:
        x: (N, C, *spatial), of a dtype that the operator takes.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype, in memory of its own and in x's memory format.

    Raises:
        RuntimeError: if groups is not positive or does not divide C, or if x has fewer than three
            dimensions.
        TypeError: if groups is no int.
        NotImplementedError: if the operator lacks x's dtype.

    >>> torch_functional(torch.arange(6).reshape(1, 6, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    return F.channel_shuffle(x, groups)
