"""Channel shuffle as PyTorch's own function, compiled by Inductor."""

import torch
import torch.nn.functional as F
from torch._dynamo.exc import TorchDynamoException

import conformance

# Compiled at the first call, and again for each rank and dtype: the default limit is 8 of them.
_compiled = torch.compile(F.channel_shuffle, fullgraph=True, dynamic=True, recompile_limit=256)


@conformance.implementation("channel_shuffle", framework="torch", promise="native")
def torch_compile(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels with `torch.nn.functional.channel_shuffle` under `torch.compile`.

    Source: https://pytorch.org/docs/stable/generated/torch.compile.html

    Args:
        x: (N, C, *spatial), of a dtype that Inductor takes.
        groups: g, into how many groups the channels are divided; a positive divisor of C.

    Returns:
        (N, C, *spatial), x's dtype, contiguous whatever x is. Where the shuffle moves nothing,
        Inductor drops the copy, and this is x's own memory.

    Raises:
        RuntimeError: if groups is not positive or does not divide C, or if x has fewer than three
            dimensions.
        TypeError: if groups is no int.
        TorchDynamoException: under `torch.func`, which has to be inside the compiled function.

    >>> torch_compile(torch.arange(6).reshape(1, 6, 1), groups=2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    try:
        return _compiled(x, groups)
    except TorchDynamoException:
        F.channel_shuffle(x, groups)  # what the operator itself refuses, it says in its own words
        raise
