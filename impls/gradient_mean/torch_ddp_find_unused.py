"""Gradient mean by DistributedDataParallel that looks for unused parameters."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_ddp_find_unused(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with DDP, which asks each time what the loss depends on.

    D17: a parameter that no rank used keeps its .grad; one that some ranks used counts as zero on
    the others.

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
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
