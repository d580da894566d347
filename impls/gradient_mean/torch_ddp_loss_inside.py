"""Gradient mean by DistributedDataParallel, with the losses inside forward."""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import conformance


class TotalLoss(nn.Module):
    """The sum of the losses of micro-batches, as a module.

    Attributes:
        model: from inputs to outputs.
        loss: of (outputs, targets), a scalar.
    """

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Sum over K of (inputs, targets); the sum is a scalar."""
        return torch.stack([self.loss(self.model(x), y) for x, y in batches]).sum()


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_ddp_loss_inside(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with DDP around the model and its K losses.

    One forward and one backward, hence one all-reduce, and no no_sync; the K graphs are held at
    once.

    Source: https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html

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
    ddp = DistributedDataParallel(TotalLoss(model, loss), process_group=group)
    ddp(batches).backward()
