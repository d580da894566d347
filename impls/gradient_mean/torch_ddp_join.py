"""Gradient mean by DistributedDataParallel for uneven numbers of micro-batches."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_ddp_join(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with DDP, where ranks may run out of micro-batches.

    D22: a rank that has run out counts as zero, and the sum is divided by W all the same. Each
    backward starts from no gradient: what earlier ones left would shrink, since a rank that has run
    out no longer adds its own copy of it.

    Source: torch 2.13.0, torch.nn.parallel.DistributedDataParallel.join.

    Args:
        model: this rank's own copy, whose parameters and buffers may differ from rank 0's.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), this rank's own; n may differ from rank to
            rank and from micro-batch to micro-batch.
        group: W ranks.

    Raises:
        RuntimeError: if no parameter requires a gradient.
        RuntimeError: at the next forward, if a parameter that requires a gradient took no part in
            the loss. Where no forward follows, gradients stay wrong without a word (D16).
    """
    ddp = DistributedDataParallel(model, process_group=group)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    mine = [(x, y) for x, y in batches if len(x)]  # without samples there is nothing to wait for
    with ddp.join(divide_by_initial_world_size=True):
        for x, y in mine:
            loss(ddp(x), y).backward()
            for parameter, total in zip(parameters, totals, strict=True):
                if parameter.grad is not None:
                    total.add_(parameter.grad)
                    parameter.grad = None
    # Only a rank that never ran out has seen every average.
    counts = [0] * group.size()
    dist.all_gather_object(counts, len(mine), group=group)
    for parameter, total in zip(parameters, totals, strict=True):
        dist.broadcast(total, group=group, group_src=counts.index(max(counts)))
        parameter.grad = total
