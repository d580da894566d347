"""Differentiate the losses of K replicas at once, one for each micro-batch, and sum.

What vmap maps has one shape: micro-batches of another follow by themselves. Every replica has
buffers of its own, which forward may change in place; the module's stay.
https://pytorch.org/docs/stable/generated/torch.func.vmap.html
"""

from itertools import groupby

import torch
from conformance import implementation
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_map


@implementation("gradient_mean", framework="torch", promise="sample_mean", devices="one")
def torch_func_vmap(model, loss, batches, devices):
    model.to(devices[0])
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def replica(parameters, buffers, x, y):
        return loss(functional_call(model, (parameters, buffers), (x,)), y)

    for _, alike in groupby(batches, key=lambda batch: len(batch[0])):
        # (K, n, …); several heads have as many targets.
        xs, ys = tree_map(lambda *ks: torch.stack(ks), *alike)
        buffers = {name: torch.stack([b] * len(xs)) for name, b in model.named_buffers()}
        grads = vmap(grad(replica), in_dims=(None, 0, 0, 0))(trainable, buffers, xs, ys)
        for name, parameter in trainable.items():
            mine = grads[name].sum(0)
            parameter.grad = mine if parameter.grad is None else parameter.grad + mine
