"""Average the ranks' own gradients with `fully_shard`, and gather them.

A rank holds 1/W of every parameter and of every gradient; backward ends in a reduce-scatter.
https://pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

import copy

import torch.distributed as dist
from conformance import implementation
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="rank_mean")
def torch_fsdp2(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    sharded = fully_shard(
        copy.deepcopy(model), mesh=mesh
    )  # it puts other parameters into the module
    *others, last = batches
    sharded.set_requires_gradient_sync(False)
    for x, y in others:
        loss(sharded(x), y).backward()
    sharded.set_requires_gradient_sync(True)
    x, y = last
    loss(sharded(x), y).backward()
    for parameter, shard in zip(model.parameters(), sharded.parameters(), strict=True):
        if shard.grad is not None:
            parameter.grad = shard.grad.full_tensor()
