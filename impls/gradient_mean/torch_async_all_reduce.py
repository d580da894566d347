"""Begin an all-reduce of every gradient after the last backward, and wait for all.

https://pytorch.org/docs/stable/distributed.html#asynchronous-collective-operations
"""

import torch.distributed as dist
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_async_all_reduce(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]  # the same on every rank
    works = [dist.all_reduce(grad, group=group, async_op=True) for grad in grads]
    for grad, work in zip(grads, works, strict=True):
        work.wait()
        grad.div_(group.size())
