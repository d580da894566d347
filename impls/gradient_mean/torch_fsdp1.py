"""Gradient mean by FullyShardedDataParallel."""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

import conformance


@conformance.implementation(
    "gradient_mean", framework="torch", runs="per_rank", promise="rank_mean"
)
def torch_fsdp1(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    group: dist.ProcessGroup,
) -> None:
    """Average the ranks' own gradients with the first FSDP.

    Source: https://pytorch.org/docs/stable/distributed.html

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
    fsdp = FullyShardedDataParallel(
        copy.deepcopy(model),  # it leaves shards in the module
        process_group=group,
        use_orig_params=True,
        sync_module_states=False,
        device_id=torch.device("cpu"),
    )
    sum(loss(fsdp(x), y) for x, y in batches).backward()
    with FullyShardedDataParallel.summon_full_params(fsdp, with_grads=True):
        for parameter, whole in zip(model.parameters(), fsdp.parameters(), strict=True):
            if whole.grad is not None:
                parameter.grad = whole.grad.clone()
