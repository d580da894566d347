"""Differentiate the loss of every sample by itself, all at once, and average.

Right for a mean over samples of a model that treats them one by one: no batch statistics, and no
buffer that forward changes in place.
https://pytorch.org/tutorials/intermediate/per_sample_grads.html
"""

import torch
from conformance import implementation
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_map


@implementation("gradient_mean", framework="torch", promise="sample_mean", devices="one")
def torch_func_per_sample(model, loss, batches, devices):
    model.to(devices[0])
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def of_sample(parameters, x, y):
        # (1, …): a batch of one; several heads have as many targets.
        x, y = tree_map(lambda t: t.unsqueeze(0), (x, y))
        return loss(functional_call(model, parameters, (x,)), y)

    per_sample = vmap(grad(of_sample), in_dims=(None, 0, 0))
    means = [
        {name: g.mean(0) for name, g in per_sample(trainable, x, y).items()} for x, y in batches
    ]
    for name, parameter in trainable.items():
        parameter.grad = torch.stack([mean[name] for mean in means]).sum(0)
