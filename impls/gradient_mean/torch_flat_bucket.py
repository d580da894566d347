"""Lay all gradients into one buffer after the last backward, all-reduce it, and divide by W.

One collective in place of one for each parameter; at least one has a gradient.
https://pytorch.org/docs/stable/distributed.html#torch.distributed.all_reduce
"""

import torch
import torch.distributed as dist
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_flat_bucket(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]  # the same on every rank
    bucket = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(bucket, group=group)
    bucket /= group.size()
    for grad, mean in zip(grads, bucket.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(mean.view_as(grad))
