"""The models of `gradient_mean.models` as torch modules, and the losses of their outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformance.core.dtypes import of_numpy
from conformance.frameworks.torch import bridge as torch_bridge
from conformance.gradient_mean.models import ATTENDING, EPSILON, Layer, Model, attention_scale

Outputs: TypeAlias = "Tensor | tuple[Tensor, ...]"


class Stack(nn.Module):
    """Layers in order, and heads side by side on the last layer's output.

    Args:
        model: the model to build; parameters, buffers and modules have the model's names.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        is_image = len(model.sample) == 3
        self._order: list[str] = []
        for index, layer in enumerate(model.layers):
            name = layer.name or f"{layer.kind}_{index}"
            self.add_module(name, _module(layer, is_image=is_image))
            self._order.append(name)
            is_image = is_image and layer.kind != "flatten"
        for layer in (*model.heads, *model.rare, *model.unused):
            # `forward` never calls the unused layers.
            self.add_module(layer.name, _module(layer, is_image=False))
        self._heads = [layer.name for layer in model.heads]
        self._rare = [layer.name for layer in model.rare]
        self._summed = model.summed
        for layer in (*model.layers, *model.heads):
            if layer.tied_to:
                self.get_submodule(layer.name).weight = self.get_submodule(layer.tied_to).weight
        for name in model.frozen:
            self.get_parameter(name).requires_grad_(requires_grad=False)
        self.train(model.training)

    def forward(self, x: Tensor) -> Outputs:
        """Computes outputs (n, …) of inputs (n, *sample); several heads give a tuple of outputs."""
        sample, is_open = x, x[:, :1] > 0 if self._rare else None
        for name in self._order:
            x = self.get_submodule(name)(x)
        outputs = tuple(self.get_submodule(name)(x) for name in self._heads) or (x,)
        if self._summed:
            outputs = (reduce(torch.add, outputs),)
        if is_open is not None and is_open.any():  # else the layers take no part in the graph
            past = (self.get_submodule(name)(sample) for name in self._rare)
            outputs = (reduce(torch.add, (*outputs, *(torch.where(is_open, y, 0) for y in past))),)
        return outputs if len(outputs) > 1 else outputs[0]


class Attention(nn.Module):
    """Causal attention with one head, in the steps of its definition."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        features_out, features_in = layer.weight
        for name in ATTENDING:
            self.add_module(name, nn.Linear(features_in, features_out, bias=False))
        self._scale = float(attention_scale(layer))

    def forward(self, x: Tensor) -> Tensor:
        """Takes x (n, T, C) to (n, T, d); no token sees a later one."""
        query, key, value = (self.get_submodule(name)(x) for name in ATTENDING)
        is_later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        scores = (query @ key.mT * self._scale).masked_fill(is_later, -torch.inf)
        return scores.softmax(-1) @ value


def _module(layer: Layer, *, is_image: bool) -> nn.Module:
    match layer.kind:
        case "linear":
            features_in, features_out = layer.weight[1], layer.weight[0]
            return nn.Linear(features_in, features_out, bias=layer.bias)
        case "conv2d":
            features_out, per_group, *kernel = layer.weight
            return nn.Conv2d(
                per_group * layer.groups,
                features_out,
                tuple(kernel),
                padding=layer.padding,
                groups=layer.groups,
                bias=layer.bias,
            )
        case "embedding":
            return nn.Embedding(*layer.weight)
        case "relu":
            return nn.ReLU()
        case "channel_shuffle":
            return nn.ChannelShuffle(layer.groups)
        case "avg_pool":
            return nn.AvgPool2d(layer.window)
        case "max_pool":
            return nn.MaxPool2d(layer.window)
        case "batch_norm":
            norm = nn.BatchNorm2d if is_image else nn.BatchNorm1d
            return norm(layer.weight[0], eps=EPSILON)
        case "layer_norm":
            return nn.LayerNorm(layer.weight, eps=EPSILON)
        case "attention":
            return Attention(layer)
        case "flatten":
            return nn.Flatten()
        case "dropout":
            return nn.Dropout(0.5)
        case "channel_dropout":
            return nn.Dropout1d(0.5)


def build(model: Model, start: Mapping[str, np.ndarray], device: torch.device) -> Stack:
    """Builds the module with these values.

    Args:
        model: the model to build.
        start: `parameter/NAME` and `buffer/NAME` for every parameter and buffer of the model.
        device: the device of its parameters and buffers.
    """
    values = {name: tensor(array, device) for name, array in start.items()}
    module = Stack(model)
    dtypes = {values[f"parameter/{name}"].dtype for name in model.parameters()}
    assert len(dtypes) == 1, f"parameters are of one dtype, not of {dtypes}"
    module.to(device, dtypes.pop())
    with torch.no_grad():
        for name in model.parameters():
            module.get_parameter(name).copy_(values[f"parameter/{name}"])
        for name in model.buffers():
            module.get_buffer(name).copy_(values[f"buffer/{name}"])
    return module


def tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """Makes a tensor with the array's bits, of the dtype that its carrier carries."""
    return torch_bridge.array(array, of_numpy(array.dtype), "contiguous", str(device))


@dataclass(frozen=True)
class Loss:
    """A loss of (outputs, targets): a scalar, the mean or the sum over samples.

    With several heads, outputs and targets are tuples, and the heads' losses add up. With weights
    it is Σ w·ℓ / Σ w over samples (n,) or tokens (n, T); where all weights are 0 it is 0. Weights
    of several heads may be a tuple too: each head's own.

    Attributes:
        kind: mean squared error, softmax cross entropy of integer targets, the output itself, or
            the square of the samples' sum.
        reduction: mean or sum, over samples and over a sample's outputs.
    """

    kind: Literal["mse", "cross_entropy", "output", "coupled"]
    reduction: Literal["mean", "sum"]

    def __call__(
        self, outputs: Outputs, targets: Outputs, weights: "Outputs | None" = None
    ) -> Tensor:
        """Takes outputs (n, …) and targets (n, …), for cross entropy (n, …, classes) and (n, …)."""
        if isinstance(outputs, Tensor):
            return self._of_head(outputs, targets, weights)
        own = weights if isinstance(weights, tuple) else (weights,) * len(outputs)
        return reduce(torch.add, map(self._of_head, outputs, targets, own))

    def _of_head(self, output: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        if weights is None:
            return self._reduced(output, target, self.reduction)
        losses = self._reduced(output, target, "none")
        if losses.ndim > weights.ndim:
            losses = losses.flatten(weights.ndim).mean(-1)
        count = weights.sum()
        return (weights * losses).sum() / torch.where(count == 0, 1, count)

    def _reduced(self, output: Tensor, target: Tensor, reduction: str) -> Tensor:
        match self.kind:
            case "mse":
                return F.mse_loss(output, target, reduction=reduction)
            case "cross_entropy":
                return F.cross_entropy(output.movedim(-1, 1), target, reduction=reduction)
            case "coupled":
                return output.sum(0).square().sum() / max(output.numel(), 1)
            case "output" if reduction == "none":
                return output
            case "output":
                return output.mean() if reduction == "mean" else output.sum()
