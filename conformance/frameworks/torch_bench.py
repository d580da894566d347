"""What ranks of torch run when worlds are measured."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

_SAMPLES, _INPUTS, _HIDDEN, _OUTPUTS = 4, 8, 16, 4


def nothing(payload: None, rank: Any) -> np.ndarray:
    """Nothing, which takes as long as asking does."""
    del payload
    return np.array(rank.index)


def check(number: int, rank: Any) -> np.ndarray:
    """One forward and backward through DistributedDataParallel; the averaged gradient in a row.

    Args:
        number: which check: the data are its own, small integers, so that no order of summation
            rounds where the number of ranks is a power of two.
        rank: this rank, its index and its process group.
    """
    model = torch.nn.Sequential(
        torch.nn.Linear(_INPUTS, _HIDDEN), torch.nn.ReLU(), torch.nn.Linear(_HIDDEN, _OUTPUTS)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(_integers(parameter.shape, number))
    replica = DistributedDataParallel(model, process_group=rank.group)
    inputs = _integers(torch.Size((_SAMPLES, _INPUTS)), number + rank.index + 1)
    torch.nn.functional.mse_loss(replica(inputs), torch.ones(_SAMPLES, _OUTPUTS)).backward()
    gradients = [parameter.grad.reshape(-1) for parameter in model.parameters()]
    gradient: np.ndarray = torch.cat(gradients).numpy()
    return gradient


def _integers(shape: Any, start: int) -> Any:
    return ((torch.arange(shape.numel()) * 3 + start) % 5 - 2).reshape(shape).float()


def leave() -> None:
    """Leave the process group."""
    dist.destroy_process_group()
