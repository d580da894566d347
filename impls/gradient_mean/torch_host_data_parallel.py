"""Gradient mean by DataParallel on the host."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import conformance
from conformance.frameworks.torch.host_data_parallel import HostDataParallel


@conformance.implementation(
    "gradient_mean", framework="torch", runs="one_process", promise="sample_mean"
)
def torch_host_data_parallel(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    devices: Sequence[torch.device],
) -> None:
    """Differentiate the loss on the outputs that `HostDataParallel` gathers.

    It is DataParallel's own code, with host memory for every device.

    Source: https://pytorch.org/docs/stable/generated/torch.nn.DataParallel.html

    Args:
        model: with its parameters and buffers on the first device.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), the whole batch, on the first device.
        devices: as many as each micro-batch is split over; all are the host.

    Raises:
        RuntimeError: if the loss is not a scalar, or a parameter or buffer is not on the CPU.
    """
    parallel = HostDataParallel(model, len(devices))
    for x, y in batches:
        loss(parallel(x), y).backward()
