"""Gradient mean by torch.func.vmap over samples."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_map

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="one_process", promise="sample_mean"
)
def torch_func_per_sample(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    devices: Sequence[torch.device],
) -> None:
    """Differentiate the loss of every sample by itself, all at once, and average.

    Right for a mean over samples of a model that treats them one by one: no batch statistics.

    Source: https://pytorch.org/tutorials/intermediate/per_sample_grads.html

    Args:
        model: with its parameters and buffers on the first device.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), the whole batch, on the first device.
        devices: at least one; the first computes all.

    Raises:
        RuntimeError: if the loss is not a scalar, or forward changes a buffer in place.
        ValueError: if a BatchNorm in training mode has one value per channel.
    """
    model.to(devices[0])
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def of_sample(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        # (1, …): a batch of one; several heads have as many targets.
        x, y = tree_map(lambda t: t.unsqueeze(0), (x, y))
        return loss(functional_call(model, parameters, (x,)), y)

    per_sample = vmap(grad(of_sample), in_dims=(None, 0, 0))
    means = [
        {name: g.mean(0) for name, g in per_sample(trainable, x, y).items()} for x, y in batches
    ]
    for name, parameter in trainable.items():
        parameter.grad = torch.stack([mean[name] for mean in means]).sum(0)
