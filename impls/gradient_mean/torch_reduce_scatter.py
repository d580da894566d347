"""Gradient mean by reduce-scatter and all-gather."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_reduce_scatter(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Let each rank average its 1/W of all gradients after the last backward, and gather them.

    Source: https://pytorch.org/docs/stable/distributed.html#torch.distributed.reduce_scatter_tensor

    Args:
        model: this rank's own copy, whose parameters and buffers may differ from rank 0's.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), this rank's own; n may differ from rank to
            rank and from micro-batch to micro-batch.
        group: W ranks.

    Raises:
        RuntimeError: if the loss is not a scalar, or no parameter has a gradient.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]  # the same on every rank
    flat = torch.cat([grad.flatten() for grad in grads])
    sizes = [grad.numel() for grad in grads]
    padded = F.pad(flat, (0, -len(flat) % group.size()))  # each rank reduces as many elements
    shard = padded.new_empty(len(padded) // group.size())
    dist.reduce_scatter_tensor(shard, padded, group=group)
    shard /= group.size()
    dist.all_gather_into_tensor(padded, shard, group=group)
    for grad, mean in zip(grads, padded[: len(flat)].split(sizes), strict=True):
        grad.copy_(mean.view_as(grad))
