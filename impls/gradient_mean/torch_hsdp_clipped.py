"""Clip the average to a norm of 1 where parameters are sharded on one axis and copied on the other.

The norm of a DTensor adds up the squares of its shards, and counts a replica's copy once (M9).
https://pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

import copy

import torch.distributed as dist
from conformance import implementation
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import clip_grad_norm_


@implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean", clip="norm"
)
def torch_hsdp_clipped(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    replicas = 2 if group.size() % 2 == 0 else 1
    kind = next(model.parameters()).device.type
    sizes = (replicas, group.size() // replicas)
    mesh = init_device_mesh(kind, sizes, mesh_dim_names=("replicate", "shard"))
    sharded = fully_shard(copy.deepcopy(model), mesh=mesh)  # it puts in other parameters
    for k, (x, y) in enumerate(batches, 1):
        sharded.set_requires_gradient_sync(k == len(batches))
        loss(sharded(x), y).backward()
    clip_grad_norm_(sharded.parameters(), 1.0)
    for parameter, shard in zip(model.parameters(), sharded.parameters(), strict=True):
        if shard.grad is not None:
            parameter.grad = shard.grad.full_tensor()
