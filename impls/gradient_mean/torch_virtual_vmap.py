"""Gradient mean over thousands of virtual ranks by torch.func.vmap."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import conformance


@conformance.implementation("gradient_mean", framework="torch", runs="virtual", promise="rank_mean")
def torch_virtual_vmap(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    devices: Sequence[torch.device],
) -> None:
    """Map every rank's own gradient along a first axis, and average along it.

    torch's vmap has no named axes and no collectives: the mean is one over the axis of what comes
    out, in which float16 and bfloat16 are summed in float32 and rounded once.

    Source: https://pytorch.org/docs/stable/generated/torch.func.vmap.html

    Args:
        model: with its parameters on the device; without buffers.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (W·n, …), targets (W·n, …)), rank after rank.
        devices: W times the same.

    Raises:
        RuntimeError: if the loss is not a scalar, or W does not divide the samples.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def replica(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(model, parameters, (x,)), y)

    for x, y in batches:
        xs, ys = (whole.unflatten(0, (len(devices), -1)) for whole in (x, y))
        grads = vmap(grad(replica), in_dims=(None, 0, 0))(trainable, xs, ys)
        for name, parameter in trainable.items():
            mean = grads[name].mean(0)
            parameter.grad = mean if parameter.grad is None else parameter.grad + mean
