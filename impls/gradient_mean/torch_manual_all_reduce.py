"""All-reduce every gradient after the last backward, and divide by W.

https://pytorch.org/docs/stable/distributed.html#torch.distributed.all_reduce
"""

import torch.distributed as dist
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_manual_all_reduce(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:  # None is frozen or unused, and so on every rank
            dist.all_reduce(parameter.grad, group=group)
            parameter.grad /= group.size()
