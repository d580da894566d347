"""Let each rank average its 1/W of all gradients after the last backward, and gather them.

At least one parameter has a gradient.
https://pytorch.org/docs/stable/distributed.html#torch.distributed.reduce_scatter_tensor
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_reduce_scatter(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]  # the same on every rank
    flat = torch.cat([grad.flatten() for grad in grads])
    sizes = [grad.numel() for grad in grads]
    padded = F.pad(flat, (0, -len(flat) % group.size()))  # each rank reduces as many elements
    shard = padded.new_empty(len(padded) // group.size())
    dist.reduce_scatter_tensor(shard, padded, group=group)
    shard /= group.size()
    dist.all_gather_into_tensor(padded, shard, group=group)
    for grad, mean in zip(grads, padded[: len(flat)].split(sizes), strict=True):
        grad.copy_(mean.view_as(grad))
