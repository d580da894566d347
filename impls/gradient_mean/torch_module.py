"""Gradient mean on one device."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="one_process", promise="sample_mean"
)
def torch_module(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    devices: Sequence[torch.device],
) -> None:
    """Differentiate the loss of the whole batch, on one device.

    Source: the definition: what the others share out among ranks is this.

    Args:
        model: with its parameters and buffers on the first device.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), the whole batch, on the first device.
        devices: at least one; the first computes all.

    Raises:
        RuntimeError: if the loss is not a scalar.
    """
    model.to(devices[0])
    for x, y in batches:
        loss(model(x), y).backward()
