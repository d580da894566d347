"""Gradient mean by one all-reduce of all gradients."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_flat_bucket(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Lay all gradients into one buffer after the last backward, all-reduce it, and divide by W.

    Source: https://pytorch.org/docs/stable/distributed.html#torch.distributed.all_reduce

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
    bucket = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(bucket, group=group)
    bucket /= group.size()
    for grad, mean in zip(grads, bucket.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(mean.view_as(grad))
