"""Channel shuffle as einops patterns."""

import einops
import torch

import conformance


@conformance.implementation("channel_shuffle", framework="torch", promise="copy")
def torch_einops(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels by writing g and C/g as axes of their own.

    Source: https://einops.rocks, `rearrange`.

    Args:
        x: (N, C, *spatial), of any dtype.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype, in memory of its own.

    Raises:
        ValueError: if groups is not positive or does not divide C.

    >>> torch_einops(torch.arange(6).reshape(1, 6, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    channels = x.shape[1]
    if groups <= 0 or channels % groups != 0:
        raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
    parts = einops.rearrange(x, "n (g d) ... -> n d g ...", g=groups)
    # One pattern, "n (g d) ... -> n (d g) ...", would give x's own memory for g = 1 and g = C.
    parts = parts.clone(memory_format=torch.contiguous_format)
    return einops.rearrange(parts, "n d g ... -> n (d g) ...")
