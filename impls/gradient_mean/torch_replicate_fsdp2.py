"""Gradient mean by the replicate that is built on fully sharded data parallelism."""

import copy
from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._composable.replicate_with_fsdp import replicate
from torch.distributed.device_mesh import DeviceMesh

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_replicate_fsdp2(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with FSDP2's machinery, and no shards.

    Every rank holds every parameter whole; backward ends in an all-reduce.

    Source: torch 2.13.0, torch/distributed/_composable/replicate_with_fsdp.py.

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
