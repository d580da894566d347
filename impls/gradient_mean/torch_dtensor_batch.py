"""Gradient mean over samples by a batch that is one distributed tensor."""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor
from torch.utils._pytree import tree_map

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="sample_mean"
)
def torch_dtensor_batch(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Differentiate the loss of all ranks' samples, as one program for one device.

    The batch is sharded over the mesh, the model replicated.

    Source: https://pytorch.org/docs/stable/distributed.tensor.html

    Args:
        model: this rank's own copy, whose parameters and buffers may differ from rank 0's.
        loss: of (model's outputs, targets), a scalar: the mean over the samples it is given.
        batches: K of (inputs (n, …), targets (n, …)), this rank's own; n may differ from rank to
            rank and from micro-batch to micro-batch.
        group: W ranks.

    Raises:
        RuntimeError: if the loss is not a scalar.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.detach(), group=group, group_src=0)
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    replica = distribute_module(copy.deepcopy(model), mesh)

    def gathered(shard: Tensor) -> Tensor:
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
