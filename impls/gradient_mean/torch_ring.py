"""Send parts of all gradients around a ring after the last backward.

A part goes W − 1 times to the right while ranks add to it, and W − 1 times to replace.
Patarasuk and Yuan, doi:10.1016/j.jpdc.2008.09.002.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ring(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    for x, y in batches:
        loss(model(x), y).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]  # the same on every rank
    flat = torch.cat([grad.flatten() for grad in grads])
    sizes = [grad.numel() for grad in grads]
    padded = F.pad(flat, (0, -len(flat) % group.size()))  # each rank reduces as many elements
    parts = padded.chunk(group.size())
    rank, world = group.rank(), group.size()

    def pass_on(sent):
        received = torch.empty_like(sent)
        to_the_right = dist.P2POp(dist.isend, sent, group=group, group_peer=(rank + 1) % world)
        from_the_left = dist.P2POp(dist.irecv, received, group=group, group_peer=(rank - 1) % world)
        for work in dist.batch_isend_irecv([to_the_right, from_the_left]):
            work.wait()
        return received

    for step in range(world - 1):  # in the end part rank + 1 holds all ranks' sum
        parts[(rank - step - 1) % world].add_(pass_on(parts[(rank - step) % world]))
    parts[(rank + 1) % world].div_(world)
    for step in range(world - 1):
        parts[(rank - step) % world].copy_(pass_on(parts[(rank - step + 1) % world]))
    for grad, mean in zip(grads, padded[: len(flat)].split(sizes), strict=True):
        grad.copy_(mean.view_as(grad))
