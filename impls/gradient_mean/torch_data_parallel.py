"""Gradient mean by DataParallel."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="one_process", promise="sample_mean"
)
def torch_data_parallel(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    devices: Sequence[torch.device],
) -> None:
    """Differentiate the loss on the outputs that `torch.nn.DataParallel` gathers.

    P1: without an accelerator it passes the batch straight through to the model.

    Source: https://pytorch.org/docs/stable/generated/torch.nn.DataParallel.html

    Args:
        model: with its parameters and buffers on the first device.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), the whole batch, on the first device.
        devices: accelerators, over which each micro-batch is split; on a machine that has none,
            anything.

    Raises:
        RuntimeError: if the loss is not a scalar, or the model is not on the first device.
    """
    parallel = nn.DataParallel(model, device_ids=devices)
    for x, y in batches:
        loss(parallel(x), y).backward()
