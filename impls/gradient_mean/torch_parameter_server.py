"""Gradient mean by one rank for all."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_parameter_server(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Reduce every gradient to rank 0 after the last backward, divide there, and send it back.

    Source: https://pytorch.org/docs/stable/distributed.html#torch.distributed.reduce

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
            dist.reduce(parameter.grad, group=group, group_dst=0)
            parameter.grad /= group.size()  # of use on rank 0 alone: the others' is overwritten
            dist.broadcast(parameter.grad, group=group, group_src=0)
