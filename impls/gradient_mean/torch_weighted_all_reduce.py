"""Weigh each rank's loss by its part of the samples, and all-reduce every gradient.

DDP would average ranks (D3); so that samples count the same, a rank's weight is n over all n.
https://pytorch.org/docs/stable/distributed.html#torch.distributed.all_reduce
"""

import torch
import torch.distributed as dist
from conformance import implementation


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="sample_mean")
def torch_weighted_all_reduce(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    mine = [len(x) for x, _ in batches]
    counts = torch.tensor(mine, device=next(model.parameters()).device)
    dist.all_reduce(counts, group=group)
    for (x, y), n, total in zip(batches, mine, counts.tolist(), strict=True):
        (loss(model(x), y) * (n / total)).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:  # None is frozen or unused, and so on every rank
            dist.all_reduce(parameter.grad, group=group)
