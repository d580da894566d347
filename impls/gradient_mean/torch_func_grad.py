"""Differentiate the loss of the whole batch as a function of the parameters.

https://pytorch.org/docs/stable/func.api.html
"""

import torch
from conformance import implementation
from torch.func import functional_call, grad


@implementation("gradient_mean", framework="torch", promise="sample_mean", devices="one")
def torch_func_grad(model, loss, batches, devices):
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def total(parameters):
        losses = [loss(functional_call(model, parameters, (x,)), y) for x, y in batches]
        return torch.stack(losses).sum()

    model.to(devices[0])
    for name, mean in grad(total)(trainable).items():
        trainable[name].grad = mean
