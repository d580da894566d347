"""Gradient mean by a distributed tensor's change of placement."""

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_dtensor(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Call every gradient a part of an average after the last backward, and ask for the whole.

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
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().copy_(distribute_tensor(tensor.detach(), mesh, [Replicate()]).to_local())
    for x, y in batches:
        loss(model(x), y).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:  # None is frozen or unused, and so on every rank
            part = DTensor.from_local(parameter.grad, mesh, [Partial("avg")])
            parameter.grad = part.redistribute(placements=[Replicate()]).to_local()
