"""Gradient mean by the composable replicate."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._composable import replicate

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_replicate(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with `replicate`, without a wrapper.

    It is DDP around the parameters alone: buffers are the caller's business.

    Source: torch 2.13.0, torch/distributed/_composable/replicate.py.

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
    for buffer in model.buffers():
        dist.broadcast(buffer, group=group, group_src=0)
    replicate(model, process_group=group)
    *others, last = batches
    model.set_requires_gradient_sync(False)
    for x, y in others:
        loss(model(x), y).backward()
    model.set_requires_gradient_sync(True)
    x, y = last
    loss(model(x), y).backward()
