"""Gather every rank's own gradient after the last backward, and average in rank order.

https://pytorch.org/docs/stable/distributed.html#torch.distributed.all_gather
"""

import torch
import torch.distributed as dist
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_all_gather_mean(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:  # None is frozen or unused, and so on every rank
            gathered = [torch.empty_like(parameter.grad) for _ in range(group.size())]
            dist.all_gather(gathered, parameter.grad, group=group)
            parameter.grad = sum(gathered) / group.size()
