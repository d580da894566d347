"""Gradient mean by DistributedDataParallel with a hook of one's own."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

import conformance


def sum_then_divide(group: dist.ProcessGroup, bucket: dist.GradBucket) -> Future[Tensor]:
    """Average a bucket: (elements,) on every rank, the same bits."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda future: future.value()[0].div_(group.size()))


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_ddp_sum_hook(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with DDP and a hook that sums, then divides.

    D7: a hook gets buckets that nobody has divided.

    Source: torch 2.13.0, torch.nn.parallel.DistributedDataParallel.register_comm_hook.

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
    ddp.register_comm_hook(group, sum_then_divide)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
