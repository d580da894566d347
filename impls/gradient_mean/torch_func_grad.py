"""Gradient mean by torch.func.grad."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="one_process", promise="sample_mean"
)
def torch_func_grad(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    devices: Sequence[torch.device],
) -> None:
    """Differentiate the loss of the whole batch as a function of the parameters.

    Source: https://pytorch.org/docs/stable/func.api.html

    Args:
        model: with its parameters and buffers on the first device.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), the whole batch, on the first device.
        devices: at least one; the first computes all.

    Raises:
        RuntimeError: if the loss is not a scalar.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def total(parameters: dict[str, Tensor]) -> Tensor:
        losses = [loss(functional_call(model, parameters, (x,)), y) for x, y in batches]
        return torch.stack(losses).sum()

    model.to(devices[0])
    for name, mean in grad(total)(trainable).items():
        trainable[name].grad = mean
