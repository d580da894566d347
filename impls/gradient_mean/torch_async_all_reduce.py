"""Gradient mean by all-reduces that are all under way at once."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_async_all_reduce(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Begin an all-reduce of every gradient after the last backward, and wait for them together.

    Source: https://pytorch.org/docs/stable/distributed.html#asynchronous-collective-operations

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
    grads = [p.grad for p in model.parameters() if p.grad is not None]  # the same on every rank
    works = [dist.all_reduce(grad, group=group, async_op=True) for grad in grads]
    for grad, work in zip(grads, works, strict=True):
        work.wait()
        grad.div_(group.size())
