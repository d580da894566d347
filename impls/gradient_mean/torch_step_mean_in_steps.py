"""Divide each step's sum by its own number of items, with DDP, step after step.

The count is that of the window whose gradients are in the step (M5), over all ranks (M1).
https://huggingface.co/blog/gradient_accumulation
"""

import torch
import torch.distributed as dist
from conformance import implementation
from torch.nn.parallel import DistributedDataParallel


@implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="step_mean", steps="several"
)
def torch_step_mean_in_steps(model, loss, windows, group):
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    for batches in windows:
        ddp.zero_grad()
        items = torch.stack([weights.sum() for *_, weights in batches]).sum()
        dist.all_reduce(items, group=group)
        for k, (x, y, weights) in enumerate(batches, 1):
            ddp.require_backward_grad_sync = k == len(batches)  # what no_sync() sets
            summed = loss(ddp(x), y, weights) * weights.sum()
            (summed * group.size() / items).backward()
        yield  # here the optimizer takes its step
