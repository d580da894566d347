"""Average the ranks' own gradients with DDP, where ranks may run out of micro-batches.

A rank that has run out counts as zero, and the sum is divided by W all the same (D22). Each
backward starts from no gradient: what earlier ones left would shrink, since a rank that has run out
no longer adds its own copy of it. For unused parameters see `torch_ddp`.
torch 2.13.0, torch.nn.parallel.DistributedDataParallel.join.
"""

import torch
import torch.distributed as dist
from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_ddp_join(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    totals = [torch.zeros_like(parameter) for parameter in parameters]
    mine = [(x, y) for x, y in batches if len(x)]  # without samples there is nothing to wait for
    with ddp.join(divide_by_initial_world_size=True):
        for x, y in mine:
            loss(ddp(x), y).backward()
            for parameter, total in zip(parameters, totals, strict=True):
                if parameter.grad is not None:
                    total.add_(parameter.grad)
                    parameter.grad = None
    # Only a rank that never ran out has seen every average.
    counts = [0] * group.size()
    dist.all_gather_object(counts, len(mine), group=group)
    for parameter, total in zip(parameters, totals, strict=True):
        dist.broadcast(total, group=group, group_src=counts.index(max(counts)))
        parameter.grad = total
