"""Average the ranks' own gradients with FSDP2's machinery, and no shards.

Every rank holds every parameter whole; backward ends in an all-reduce. Before torch 2.10 it takes
no mesh, but makes one of all ranks and waits for them.
torch 2.13.0, torch/distributed/_composable/replicate_with_fsdp.py.
"""

import copy

import torch.distributed as dist
from conformance import implementation
from torch.distributed._composable.replicate_with_fsdp import replicate
from torch.distributed.device_mesh import DeviceMesh


@implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean", needs="torch>=2.10"
)
def torch_replicate_fsdp2(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    replica = replicate(copy.deepcopy(model), mesh=mesh)  # it puts other parameters into the module
    *others, last = batches
    replica.set_requires_gradient_sync(False)
    for x, y in others:
        loss(replica(x), y).backward()
    replica.set_requires_gradient_sync(True)
    x, y = last
    loss(replica(x), y).backward()
    for parameter, copied in zip(model.parameters(), replica.parameters(), strict=True):
        if copied.grad is not None:
            parameter.grad = copied.grad.full_tensor()
