"""Divide the sum over a whole step by its number of items, with `fully_shard` on two axes.

Parameters are sharded over one axis of the mesh and replicated over the other, where there is an
even number of ranks; gradients are averaged over both, so that W/N is that of all ranks (M1).
https://pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

import copy

import torch
import torch.distributed as dist
from conformance import implementation
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="step_mean")
def torch_step_mean_hsdp(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    items = torch.stack([weights.sum() for *_, weights in batches]).sum()
    dist.all_reduce(items, group=group)
    world = group.size()
    replicas = 2 if world % 2 == 0 else 1
    kind = next(model.parameters()).device.type
    mesh = init_device_mesh(
        kind, (replicas, world // replicas), mesh_dim_names=("replicate", "shard")
    )
    sharded = fully_shard(copy.deepcopy(model), mesh=mesh)  # it puts in other parameters
    for k, (x, y, weights) in enumerate(batches, 1):
        sharded.set_requires_gradient_sync(k == len(batches))
        summed = loss(sharded(x), y, weights) * weights.sum()
        (summed * world / items).backward()
    for parameter, shard in zip(model.parameters(), sharded.parameters(), strict=True):
        if shard.grad is not None:
            parameter.grad = shard.grad.full_tensor()
