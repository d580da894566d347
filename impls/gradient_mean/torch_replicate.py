"""Average the ranks' own gradients with the composable `replicate`, without a wrapper.

It is DDP around the parameters alone: buffers are the caller's business. For unused parameters see
`torch_ddp`.
torch 2.13.0, torch/distributed/_composable/replicate.py.
"""

import torch.distributed as dist
from conformance import implementation
from torch.distributed._composable import replicate


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_replicate(model, loss, batches, group):
    for buffer in model.buffers():
        dist.broadcast(buffer, group=group, group_src=0)
    replicate(model, process_group=group)
    *others, last = batches
    model.set_requires_gradient_sync(False)
    for x, y in others:
        loss(model(x), y).backward()
    model.set_requires_gradient_sync(True)
    x, y = last
    loss(model(x), y).backward()
