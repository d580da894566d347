"""Gradient mean by an all-reduce of every gradient."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_manual_all_reduce(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """All-reduce every gradient after the last backward, and divide by W.

    Source: https://pytorch.org/docs/stable/distributed.html#torch.distributed.all_reduce

    Args:
        model: this rank's own copy, whose parameters and buffers may differ from rank 0's.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), this rank's own; n may differ from rank to
            rank and from micro-batch to micro-batch.
        group: W ranks.

    Raises:
        RuntimeError: if the loss is not a scalar.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:  # None is frozen or unused, and so on every rank
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= group.size()
