"""Average the ranks' own gradients with DDP around the model and its K losses.

One forward and one backward, hence one all-reduce, and no no_sync; the K graphs are held at once.
For unused parameters see `torch_ddp`.
https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
"""

import torch
from conformance import implementation
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class TotalLoss(nn.Module):
    """The sum of the losses of micro-batches, as a module."""

    def __init__(self, model, loss):
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batches):
        """Sum over K of (inputs, targets); the sum is a scalar."""
        return torch.stack([self.loss(self.model(x), y) for x, y in batches]).sum()


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_loss_inside(model, loss, batches, group):
    ddp = DistributedDataParallel(TotalLoss(model, loss), process_group=group)
    ddp(batches).backward()
