"""Differentiate the loss of all ranks' samples, as one program for one device.

The batch is sharded over the mesh, the model replicated. Before torch 2.13 DTensor shards batch
norms, padded max pools and empty shards wrong.
https://pytorch.org/docs/stable/distributed.tensor.html
"""

import copy

import torch
import torch.distributed as dist
from conformance import implementation
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor
from torch.utils._pytree import tree_map


@implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="sample_mean", needs="torch>=2.13"
)
def torch_dtensor_batch(model, loss, batches, group):
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    replica = distribute_module(copy.deepcopy(model), mesh)

    def gathered(shard):
        shards = [shard] * group.size()
        dist.all_gather_object(shards, shard, group=group)
        return torch.cat(shards)

    for x, y in batches:
        # A DTensor's shards are torch.chunk's; the ranks' own need not be.
        outputs = replica(distribute_tensor(gathered(x), mesh, [Shard(0)]))
        # On shards the backward of mse_loss would divide by the elements of the shard.
        wholes = tree_map(DTensor.full_tensor, outputs)
        loss(wholes, tree_map(gathered, y)).backward()
    for name, copied in replica.named_parameters():  # no longer tied, if any were
        if copied.grad is not None:
            parameter, grad = model.get_parameter(name), copied.grad.full_tensor()
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad
