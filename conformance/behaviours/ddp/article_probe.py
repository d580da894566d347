"""Probes DistributedDataParallel as the article describes it."""

import inspect
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

from conformance.behaviours.ddp.parts_probe import (
    Line,
    Rows,
    array,
    everyone,
    objects,
    parallel,
    tensor,
)
from conformance.behaviours.probe import Answers, Place
from conformance.frameworks.torch.host_data_parallel import HostDataParallel

_DOCUMENTED = {
    "DistributedDataParallel": DistributedDataParallel,
    "DataParallel": nn.DataParallel,
}


def documented(place: Place, *, of: str, words: Sequence[str]) -> Answers:
    """Says whether torch's docstring of a class has each of the words, in any line breaks."""
    del place
    docstring = " ".join(str(_DOCUMENTED[of].__doc__).split())
    return {"says": np.array([phrase in docstring for phrase in words])}


def homes(place: Place) -> Answers:
    """Returns where in torch the article's three modules live."""
    del place
    three = [nn.ChannelShuffle, nn.DataParallel, DistributedDataParallel]
    names = [cls.__name__ for cls in three]
    return {
        "are_modules": np.array([issubclass(cls, nn.Module) for cls in three]),
        "in_nn": np.array([hasattr(nn, name) for name in names]),
        "in_nn_parallel": np.array([hasattr(nn.parallel, name) for name in names]),
        "under_torch_nn": np.array([cls.__module__.startswith("torch.nn.") for cls in three]),
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "forward_sync_buffers": {"forward_sync_buffers": True},
    "init_sync": {"init_sync": False},
    "dim": {"dim": 1},
    "bucket_cap_mb": {"bucket_cap_mb": 1e-6},
    "find_unused_parameters": {"find_unused_parameters": True},
    "gradient_as_bucket_view": {"gradient_as_bucket_view": True},
    "static_graph": {"static_graph": True},
    "batched_grad_copy": {"batched_grad_copy": True},
}


def inputs_seen(place: Place, *, batches: Sequence[Rows], options: Sequence[str]) -> Answers:
    """Returns the input of each rank's module, (W, B, F), with each option of the constructor.

    Rank r passes the batch `batches[r]`, (B, F), to DDP. An option that this torch does not know
    cannot send inputs anywhere, and is left out.
    """
    batch = tensor(place, batches[place.rank])
    parameters = inspect.signature(DistributedDataParallel).parameters
    answers = {}
    for option in options:
        module = Line(batch.shape[-1])
        arguments = _OPTIONS[option] if option in parameters else {}
        ddp = parallel(place, module, **arguments)
        ddp(batch).mean().backward()
        answers[f"{option}/seen"] = everyone(place, module.seen[0])
        answers[f"{option}/gradients"] = everyone(place, module.weight.grad)
    return answers


def sampled(place: Place, *, samples: Sequence[float], world_size: int) -> Answers:
    """Runs the same code on every rank, with its part of the samples by DistributedSampler.

    The answers are the parts, (W, n), and the gradient of the mean on each rank, (W, 1).
    """
    sampler = DistributedSampler(
        samples,
        num_replicas=world_size,
        rank=place.rank,
        shuffle=False,
    )
    module = Line()
    ddp = parallel(place, module)
    ddp(tensor(place, [[samples[index]] for index in sampler])).mean().backward()
    return {
        "parts": everyone(place, module.seen[0])[:, :, 0],
        "gradients": everyone(place, module.weight.grad),
    }


def loop(place: Place, *, dataset: Rows, mended: bool, world_size: int) -> Answers:
    """Runs the article's training loop over a data set of batches, with SGD of rate 1/2.

    As printed, every rank trains on the whole data set and nothing clears gradients; mended,
    rank r takes every W-th sample of a batch from r, and gradients are cleared.
    """
    module = Line()
    ddp = parallel(place, module)
    optimizer = torch.optim.SGD(ddp.parameters(), lr=0.5)
    gradients, weights = [], []
    for batch in dataset:
        samples = batch[place.rank :: world_size] if mended else batch
        if mended:
            optimizer.zero_grad()
        ddp(tensor(place, samples).unsqueeze(-1)).mean().backward()
        optimizer.step()
        gradients.append(array(module.weight.grad))
        weights.append(array(module.weight))
    return {
        "seen": everyone(place, torch.cat(module.seen))[:, :, 0],
        "gradients": np.concatenate(gradients),
        "weights": np.concatenate(weights),
    }


def beside_data_parallel(place: Place, *, samples: Sequence[float], world_size: int) -> Answers:
    """Averages over equal shards, with DDP and with DataParallel of W replicas."""
    n = len(samples) // world_size
    whole = torch.tensor(samples).unsqueeze(-1)
    in_ddp = Line()
    ddp = parallel(place, in_ddp)
    ddp(tensor(place, samples[place.rank * n :][:n]).unsqueeze(-1)).mean().backward()
    in_data_parallel = Line()
    HostDataParallel(in_data_parallel, world_size)(whole).mean().backward()
    return {
        "distributed_data_parallel": everyone(place, in_ddp.weight.grad),
        "data_parallel": everyone(place, in_data_parallel.weight.grad),
    }


class _Counting(Line):
    """A line that adds its inputs up in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.found: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, 1) to (n,)."""
        self.found.append(self.count.clone())
        self.count += x.sum()
        return super().forward(x)


def reduction(place: Place, *, inputs: Sequence[float]) -> Answers:
    """Returns each rank's own gradient, and the gradients of DDP and of DataParallel.

    A step of SGD of rate 1/2 follows: the answers are each rank's parameter, its buffer, which
    counted the rank's own input in both forwards, and the buffer in the next forward.
    """
    x = tensor(place, [[inputs[place.rank]]])
    module = _Counting()
    ddp = parallel(place, module)
    with ddp.no_sync():
        ddp(x).sum().backward()
    own = everyone(place, module.weight.grad)
    ddp.zero_grad()
    ddp(x).sum().backward()
    reduced = everyone(place, module.weight.grad)
    torch.optim.SGD(ddp.parameters(), lr=0.5).step()
    counted = everyone(place, module.count)
    ddp(x)
    in_data_parallel = Line()
    replicas = HostDataParallel(in_data_parallel, place.world_size)
    replicas(torch.tensor(inputs).unsqueeze(-1)).sum().backward()
    return {
        "own": own,
        "distributed_data_parallel": reduced,
        "data_parallel": everyone(place, in_data_parallel.weight.grad),
        "parameters": everyone(place, module.weight),
        "buffers": counted,
        "buffers_found": everyone(place, module.found[-1]),
    }


class _WhereIRun(Line):
    """A line that keeps the processes it ran in; replicas share the list."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, 1) to (n,)."""
        self.processes.append(os.getpid())
        return super().forward(x)


def spans(place: Place, *, world_size: int) -> Answers:
    """Counts the processes of W replicas, and says whether a class takes a process group."""
    x = torch.ones(world_size, 1)
    in_data_parallel, in_ddp = _WhereIRun(), _WhereIRun()
    HostDataParallel(in_data_parallel, world_size)(x)
    parallel(place, in_ddp)(x[:1].to(place.device))
    all_processes = [
        process for processes in objects(place, in_ddp.processes) for process in processes
    ]
    return {
        "replicas": np.array([len(in_data_parallel.processes), len(all_processes)]),
        "processes": np.array([len(set(in_data_parallel.processes)), len(set(all_processes))]),
        "takes_a_group": np.array(
            [
                "process_group" in inspect.signature(cls).parameters
                for cls in (nn.DataParallel, DistributedDataParallel)
            ]
        ),
    }


class _Shuffled(nn.Module):
    """A grouped convolution, ReLU, a channel shuffle and a grouped convolution, all of kernel 1."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        first, second = torch.tensor(first), torch.tensor(second)
        groups, out, within = first.shape
        self.first = nn.Conv1d(groups * within, groups * out, 1, groups=groups, bias=False)
        self.shuffle = nn.ChannelShuffle(groups)
        groups, out, within = second.shape
        self.second = nn.Conv1d(groups * within, groups * out, 1, groups=groups, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(first.reshape(self.first.weight.shape))
            self.second.weight.copy_(second.reshape(self.second.weight.shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C) to (N, C')."""
        y: torch.Tensor = self.second(self.shuffle(torch.relu(self.first(x.unsqueeze(-1)))))
        return y.squeeze(-1)


def shuffled_network(
    place: Place, *, samples: Rows, first: Sequence[Rows], second: Sequence[Rows]
) -> Answers:
    """Trains a network with a channel shuffle, on one device and with both classes.

    The loss is the mean over the samples (N, C) of half the squares of the outputs, summed.

    Args:
        place: the place where the probe runs.
        samples: (N, C).
        first: the weight of the first convolution, (groups, out, in).
        second: the weight of the second convolution.
    """
    n = len(samples) // place.world_size
    answers = {}
    for way in ("one_device", "data_parallel", "distributed_data_parallel"):
        network, x = _Shuffled(first, second), torch.tensor(samples)
        model: Any = network
        if way == "data_parallel":
            model = HostDataParallel(network, place.world_size)
        elif way == "distributed_data_parallel":
            model = parallel(place, network)
            x = x[place.rank * n :][:n].to(place.device)
        (model(x).square().sum(-1) / 2).mean().backward()
        answers[f"{way}/first"] = array(network.first.weight.grad)
        answers[f"{way}/second"] = array(network.second.weight.grad)
    return answers
