"""Clip the average of all ranks and micro-batches to a norm of 1, with DDP.

Once, after the last backward, which has averaged: every rank then finds the same norm (M9).
https://pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
"""

from conformance import implementation
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_


@implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean", clip="norm"
)
def torch_ddp_clipped(model, loss, batches, group):
    ddp = DistributedDataParallel(model, process_group=group, find_unused_parameters=True)
    *others, last = batches
    with ddp.no_sync():
        for x, y in others:
            loss(ddp(x), y).backward()
    x, y = last
    loss(ddp(x), y).backward()
    clip_grad_norm_(model.parameters(), 1.0)
