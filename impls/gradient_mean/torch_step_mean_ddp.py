"""Divide the sum over a whole step by its number of items, with DDP.

The items of all ranks and micro-batches are counted before the first forward. A mean times its
items is a sum; W/N makes DDP's mean of ranks the mean over the step's N items (M1).
https://huggingface.co/blog/gradient_accumulation
"""

import torch
import torch.distributed as dist
from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="step_mean")
def torch_step_mean_ddp(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    items = torch.stack([weights.sum() for *_, weights in batches]).sum()
    dist.all_reduce(items, group=group)

    def backward(x, y, weights):
        summed = loss(ddp(x), y, weights) * weights.sum()
        (summed * group.size() / items).backward()

    *others, last = batches
    with ddp.no_sync():  # around the forward too, for it is there that DDP decides
        for batch in others:
            backward(*batch)
    backward(*last)
