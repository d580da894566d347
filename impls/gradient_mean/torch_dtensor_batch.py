"""Gradient mean over samples by a batch that is one distributed tensor."""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_module

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
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    replica = distribute_module(copy.deepcopy(model), mesh)  # rank 0's, on every rank

    def whole(shard: Tensor, counts: list[int]) -> DTensor:
        shape = (sum(counts), *shard.shape[1:])
        return DTensor.from_local(
            shard, mesh, [Shard(0)], shape=torch.Size(shape), stride=shard.stride()
        )

    for x, y in batches:
        counts = [0] * group.size()
        dist.all_gather_object(counts, len(y), group=group)
        loss(replica(whole(x, counts)), whole(y, counts)).full_tensor().backward()
    for parameter, copied in zip(model.parameters(), replica.parameters(), strict=True):
        if copied.grad is not None:
            parameter.grad = copied.grad.full_tensor()
