"""Gradient mean by DistributedDataParallel of a graph that never changes."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_ddp_static_graph(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with DDP, which looks at the graph once.

    `static_graph` allows unused parameters without searching for them.

    Source: https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html

    Args:
        model: this rank's own copy, whose parameters and buffers may differ from rank 0's.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), this rank's own; n may differ from rank to
            rank and from micro-batch to micro-batch.
        group: W ranks.

    Raises:
        RuntimeError: if no parameter requires a gradient.
    """
    ddp = DistributedDataParallel(model, process_group=group, static_graph=True)
    sum(loss(ddp(x), y) for x, y in batches).backward()
