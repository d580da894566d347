"""Probes DistributedDataParallel's buffers, and batch normalisation over the ranks."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from conformance.behaviours.ddp.parts_probe import (
    Line,
    array,
    everyone,
    knows,
    on_the_cpu,
    parallel,
    refusal,
    tensor,
)
from conformance.behaviours.probe import Answers, Place


class _Remembering(Line):
    """A line with a buffer, which keeps what the buffer was in the last forward."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.register_buffer("state", torch.tensor([start]))
        self.state_seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, 1) to (n,)."""
        self.state_seen = self.state.clone()
        return super().forward(x)


def before_forward(
    place: Place,
    *,
    starts: Sequence[float],
    later: Sequence[float],
    mode: str = "train",
    after: str = "",
    option: str = "",
) -> Answers:
    """Returns a buffer of every rank, (W, 1): when DDP is built, and as a forward finds it.

    Args:
        place: the place where the probe runs.
        starts: the start value of rank r.
        later: the value to which rank r sets its buffer before the last forward.
        mode: train or eval.
        after: the context of a forward before the last: no_sync, no_grad, or empty for no forward.
        option: a constructor argument that is set to False.
    """
    module = _Remembering(starts[place.rank])
    if option:
        knows(option)
    # Where torch does not know this option, broadcast_buffers is not deprecated.
    knows("forward_sync_buffers")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ddp = parallel(place, module, **({option: False} if option else {}))
    deprecated = [warning for warning in caught if issubclass(warning.category, FutureWarning)]
    built = everyone(place, module.state)
    ddp.train(mode == "train")
    x = tensor(place, [[1.0]])
    if after == "no_sync":
        with ddp.no_sync():
            ddp(x)
    elif after == "no_grad":
        with torch.no_grad():
            ddp(x)
    with torch.no_grad():
        module.state.fill_(later[place.rank])
    ddp(x)
    return {
        "built": built,
        "seen": everyone(place, module.state_seen),
        "future_warnings": np.array(len(deprecated)),
    }


def sync_batch_norm(place: Place, *, how: str) -> Answers:
    """Runs SyncBatchNorm on the CPU, in training or inside DDP, and returns its refusal."""
    on_the_cpu(place)
    layer = nn.SyncBatchNorm(2, process_group=place.group)
    if how == "training":
        return refusal(
            lambda: layer(torch.ones(3, 2)), ValueError, "expected input tensor to be on GPU"
        )
    return refusal(
        lambda: parallel(place, nn.Sequential(nn.Linear(2, 2), layer)),
        ValueError,
        "SyncBatchNorm layers only work with GPU modules",
    )


def sync_batch_norm_eval(
    place: Place, *, inputs: Sequence[Sequence[float]], mean: float, variance: float
) -> Answers:
    """Runs SyncBatchNorm on the CPU in eval mode, with these statistics and eps = 0."""
    on_the_cpu(place)
    layer = nn.SyncBatchNorm(len(inputs[0]), eps=0.0, process_group=place.group).eval()
    with torch.no_grad():
        layer.running_mean.fill_(mean)
        layer.running_var.fill_(variance)
        return {"outputs": array(layer(torch.tensor(inputs)))}
