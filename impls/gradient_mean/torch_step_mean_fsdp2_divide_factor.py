"""Let `fully_shard` add up what ranks have divided by the step's items, as pytorch/torchtitan does.

Its divide factor is 1, so that nothing undoes a division by W (pytorch/torchtitan#1842).
torch 2.13.0, torch.distributed.fsdp.FSDPModule.set_gradient_divide_factor.
"""

import copy

import torch
import torch.distributed as dist
from conformance import implementation
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard


@implementation("gradient_mean", framework="torch", runs="per_rank", promise="step_mean")
def torch_step_mean_fsdp2_divide_factor(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    items = torch.stack([weights.sum() for *_, weights in batches]).sum()
    dist.all_reduce(items, group=group)
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    sharded = fully_shard(copy.deepcopy(model), mesh=mesh)  # it puts in other parameters
    sharded.set_gradient_divide_factor(1.0)
    sharded.set_force_sum_reduction_for_comms(True)  # gloo has no sum that multiplies first
    for k, (x, y, weights) in enumerate(batches, 1):
        sharded.set_requires_gradient_sync(k == len(batches))
        (loss(sharded(x), y, weights) * (weights.sum() / items)).backward()
    for parameter, shard in zip(model.parameters(), sharded.parameters(), strict=True):
        if shard.grad is not None:
            parameter.grad = shard.grad.full_tensor()
