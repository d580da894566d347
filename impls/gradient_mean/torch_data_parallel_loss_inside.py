"""Differentiate the mean of the losses that the replicas of `HostDataParallel` return.

That is the mean of the chunks' means (P14). Chunks are `torch.chunk`'s: each of ⌈n/W⌉ samples, and
the last of the rest. It asks `torch.accelerator` for its devices, and so needs torch 2.10.
https://pytorch.org/docs/stable/generated/torch.nn.DataParallel.html
"""

from conformance import implementation
from conformance.frameworks.torch.host_data_parallel import HostDataParallel
from torch import nn


class ModelAndLoss(nn.Module):
    """A model and the loss of its outputs, as a module."""

    def __init__(self, model, loss):
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, x, y):
        """Loss of inputs (n, …) and targets (n, …), as a vector of one, which can be gathered."""
        return self.loss(self.model(x), y).unsqueeze(0)


@implementation("gradient_mean", framework="torch", promise="rank_mean", needs="torch>=2.10")
def torch_data_parallel_loss_inside(model, loss, batches, devices):
    parallel = HostDataParallel(ModelAndLoss(model, loss), len(devices))
    for x, y in batches:
        parallel(x, y).mean().backward()
