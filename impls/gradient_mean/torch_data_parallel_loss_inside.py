"""Gradient mean by DataParallel with the loss inside forward."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import conformance
from conformance.frameworks.torch.host_data_parallel import HostDataParallel


class ModelAndLoss(nn.Module):
    """A model and the loss of its outputs, as a module.

    Attributes:
        model: from inputs to outputs.
        loss: of (outputs, targets), a scalar.
    """

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Loss of inputs (n, …) and targets (n, …), as a vector of one, which can be gathered."""
        return self.loss(self.model(x), y).unsqueeze(0)


@conformance.implementation(
    "gradient_mean", framework="torch", runs="one_process", promise="rank_mean"
)
def torch_data_parallel_loss_inside(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    devices: Sequence[torch.device],
) -> None:
    """Differentiate the mean of the losses that the replicas of `HostDataParallel` return.

    P14: that is the mean of the chunks' means. Chunks are `torch.chunk`'s: each of ⌈n/W⌉ samples,
    and the last of the rest.

    Source: https://pytorch.org/docs/stable/generated/torch.nn.DataParallel.html

    Args:
        model: with its parameters and buffers on the first device.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), the whole batch, on the first device.
        devices: as many as each micro-batch is split over; all are the host.

    Raises:
        RuntimeError: if the loss is not a scalar, or a parameter or buffer is not on the CPU.
    """
    parallel = HostDataParallel(ModelAndLoss(model, loss), len(devices))
    for x, y in batches:
        parallel(x, y).mean().backward()
