"""Gradient mean without accumulation."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_autograd_grad(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Differentiate with `torch.autograd.grad`, all-reduce what it returns, and divide by W.

    D15: DDP does not see such gradients, so that they are averaged by hand.

    Source: https://pytorch.org/docs/stable/generated/torch.autograd.grad.html

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
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = torch.stack([loss(model(x), y) for x, y in batches]).sum()
    grads = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, grad in zip(parameters, grads, strict=True):
        if grad is not None:  # None is unused, and so on every rank
            mean = grad.contiguous()
            dist.all_reduce(mean, group=group)
            parameter.grad = mean / group.size()
