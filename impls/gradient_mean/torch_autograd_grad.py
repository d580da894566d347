"""Differentiate with `torch.autograd.grad`, all-reduce what it returns, and divide by W.

DDP does not see such gradients (D15), so that they are averaged by hand.
https://pytorch.org/docs/stable/generated/torch.autograd.grad.html
"""

import torch
import torch.distributed as dist
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_autograd_grad(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = torch.stack([loss(model(x), y) for x, y in batches]).sum()
    grads = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, grad in zip(parameters, grads, strict=True):
        if grad is not None:  # None is unused, and so on every rank
            mean = grad.contiguous()
            dist.all_reduce(mean, group=group)
            parameter.grad = mean / group.size()
