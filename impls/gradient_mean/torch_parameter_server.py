"""Reduce every gradient to rank 0 after the last backward, divide there, and send it back.

https://pytorch.org/docs/stable/distributed.html#torch.distributed.reduce
"""

import torch.distributed as dist
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_parameter_server(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:  # None is frozen or unused, and so on every rank
            dist.reduce(parameter.grad, group=group, group_dst=0)
            parameter.grad /= group.size()  # of use on rank 0 alone: the others' is overwritten
            dist.broadcast(parameter.grad, group=group, group_src=0)
