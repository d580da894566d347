"""Add up sums of losses, all-reduce gradients and the count, and divide once before the step.

Nothing is counted ahead: a count adds up with the gradients that it belongs to (M1).
https://pytorch.org/docs/stable/distributed.html#torch.distributed.all_reduce
"""

import torch
import torch.distributed as dist
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="step_mean")
def torch_step_mean_divided_last(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    items = torch.zeros((), device=next(model.parameters()).device)
    for x, y, weights in batches:
        (loss(model(x), y, weights) * weights.sum()).backward()
        items += weights.sum()
    dist.all_reduce(items, group=group)
    for parameter in model.parameters():
        if parameter.grad is not None:  # None is frozen or unused, and so on every rank
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= items
