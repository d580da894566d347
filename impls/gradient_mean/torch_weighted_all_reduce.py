"""Gradient mean over samples by a weighted all-reduce."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="sample_mean"
)
def torch_weighted_all_reduce(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Weigh each rank's loss by its part of the samples, and all-reduce every gradient.

    D3 averages ranks; so that samples count the same, a rank's weight is n over the sum of all n.

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
    mine = [len(x) for x, _ in batches]
    counts = torch.tensor(mine, device=next(model.parameters()).device)
    dist.all_reduce(counts, group=group)
    for (x, y), n, total in zip(batches, mine, counts.tolist(), strict=True):
        (loss(model(x), y) * (n / total)).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:  # None is frozen or unused, and so on every rank
            dist.all_reduce(parameter.grad, group=group)
