"""Gradient mean by DistributedDataParallel's hook allreduce_hook."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_ddp_allreduce_hook(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with DDP and `allreduce_hook`.

    D6: the hook divides by W, where the default multiplies by 1/W.

    Source: https://pytorch.org/docs/stable/ddp_comm_hooks.html

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
    ddp.register_comm_hook(group, allreduce_hook)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
