"""Gradient mean by DistributedDataParallel's hook for post-local SGD."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import (
    PostLocalSGDState,
    post_localSGD_hook,
)
from torch.nn.parallel import DistributedDataParallel

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_ddp_post_local_sgd_hook(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with DDP and `post_localSGD_hook`, before it turns local.

    In the first `start_localSGD_iter` steps the hook averages over all ranks; this is the first.

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
    state = PostLocalSGDState(group, subgroup=group, start_localSGD_iter=1)
    ddp.register_comm_hook(state, post_localSGD_hook)
    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
