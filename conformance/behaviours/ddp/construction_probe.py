"""Probes DistributedDataParallel's constructor, and what it refuses."""

import inspect
import os
import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from conformance.behaviours.ddp.parts_probe import (
    Line,
    Rows,
    alike,
    everyone,
    objects,
    on_the_cpu,
    parallel,
    refusal,
    tensor,
    uninitialised,
)
from conformance.behaviours.probe import Answers, Place
from conformance.core.dtypes import text
from conformance.core.outcomes import NotExercised

_NO_GRADIENT = "doesn't have any parameter that requires a gradient"
_ONE_DEVICE = "device_ids can only be None or contain a single element"
_NO_DEVICE = "only work with single-device/multiple-device GPU modules or CPU modules"


def initial_values(place: Place, *, starts: Sequence[float], init_sync: bool = True) -> Answers:
    """Returns a parameter and a buffer of every rank, built and after a change of the parameter.

    Rank r begins with `starts[r]`, and adds r to its parameter once DDP is built; a step follows.
    """
    module = Line(start=starts[place.rank])
    module.register_buffer("buffer", tensor(place, [100 * starts[place.rank]]))
    ddp = parallel(place, module, init_sync=init_sync)
    built = everyone(place, module.weight), everyone(place, module.buffer)
    with torch.no_grad():
        module.weight += place.rank
    ddp(tensor(place, [[1.0]])).sum().backward()
    return {
        "parameter/built": built[0],
        "buffer/built": built[1],
        "parameter/changed": everyone(place, module.weight),
    }


def replicas(place: Place, *, starts: Sequence[float], gradients: Rows, steps: int) -> Answers:
    """Says whether the ranks hold equal bits when built, and after each step of Adam.

    Rank r begins with `starts[r]` and has the gradient `gradients[r]`.
    """
    own = gradients[place.rank]
    module = Line(len(own), starts[place.rank]).to(place.device)
    apart = not alike(place, module.weight)
    ddp = parallel(place, module)
    agree = [alike(place, module.weight)]
    adam = torch.optim.Adam(ddp.parameters(), lr=0.1)
    for _ in range(steps):
        adam.zero_grad()
        ddp(tensor(place, [own])).sum().backward()
        adam.step()
        agree.append(alike(place, module.weight))
    return {"apart_before": np.array(apart), "agree": np.array(agree)}


def without_gradient(place: Place, *, module: str) -> Answers:
    """Constructs DDP with a module in which no parameter, or some, requires a gradient."""
    modules = {
        "frozen": nn.Linear(2, 1).requires_grad_(requires_grad=False),
        "channel-shuffle": nn.ChannelShuffle(2),
        "trained": nn.Linear(2, 1),
    }
    return refusal(lambda: parallel(place, modules[module]), RuntimeError, _NO_GRADIENT)


def devices(
    place: Place, *, device_ids: Sequence[int] | None = None, output_device: int | None = None
) -> Answers:
    """Constructs DDP of a module on the CPU with these devices, and counts warnings."""
    on_the_cpu(place)
    ids = device_ids if device_ids is None else list(device_ids)
    several = ids is not None and len(ids) > 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = refusal(
            lambda: parallel(place, nn.Linear(2, 1), device_ids=ids, output_device=output_device),
            ValueError,
            _ONE_DEVICE if several else _NO_DEVICE,
        )
    return {**outcome, "warnings": np.array(len(caught))}


def placing(place: Place, *, inputs: Rows) -> Answers:
    """Asks where DDP leaves a module on the CPU, and whether it refuses another device.

    Each rank then runs its own input forward, and backward without synchronising: (W,) outputs
    and (W, F) gradients.
    """
    on_the_cpu(place)
    own = inputs[place.rank]
    module = Line(len(own))
    previous = module.weight.device, module.weight.data_ptr()
    refused = refusal(
        lambda: parallel(place, module, device_ids=[0]),
        ValueError,
        _NO_DEVICE,
    )
    ddp = parallel(place, module)
    stays = previous == (module.weight.device, module.weight.data_ptr())
    with ddp.no_sync():
        output = ddp(tensor(place, [own]))
        output.sum().backward()
    return {
        **refused,
        "stays": np.array(stays),
        "device": text(str(module.weight.device)),
        "outputs": everyone(place, output)[:, 0],
        "gradients": everyone(place, module.weight.grad),
    }


def current_devices(place: Place, *, world_size: int) -> Answers:
    """Returns `torch.cuda.current_device()` of a new thread in each of W processes.

    Raises:
        NotExercised: on another device than CUDA's.
    """
    del world_size
    if torch.device(place.device).type != "cuda":
        raise NotExercised("this asks which of the CUDA devices is the current one")
    from concurrent.futures import ThreadPoolExecutor

    # The choice of a device holds for one thread alone.
    with ThreadPoolExecutor(1) as new_thread:
        device = new_thread.submit(torch.cuda.current_device).result()
    return {"devices": np.array(objects(place, device), np.int64)}


def gpu_module(place: Place) -> Answers:
    """Puts a module on the first GPU with `device_ids=[0]`, and returns the output's device.

    Raises:
        NotExercised: on another device than CUDA's.
    """
    if torch.device(place.device).type != "cuda":
        raise NotExercised("this asks about a module on a GPU")
    ddp = parallel(place, Line().to("cuda:0"), device_ids=[0])
    output = ddp(torch.ones(1, 1))
    return {
        "device_ids": np.array(ddp.device_ids),
        "output_device": np.array(ddp.output_device),
        "output_lies": text(str(output.device)),
    }


def container(place: Place, *, gradients: Rows) -> Answers:
    """Asks what DDP is, and what its attribute and its argument `module` are."""
    own = gradients[place.rank]
    module = Line(len(own)).to(place.device)
    ddp = parallel(place, module)
    ddp(tensor(place, [own])).sum().backward()
    parameters = list(inspect.signature(DistributedDataParallel).parameters.values())
    return {
        "is_a_module": np.array(isinstance(ddp, nn.Module)),
        "same_module": np.array(ddp.module is module),
        "same_parameters": np.array(next(ddp.parameters()) is module.weight),
        "same_group": np.array(ddp.process_group is place.group),
        "first_argument": text(parameters[0].name),
        "required_arguments": np.array(
            sum(parameter.default is inspect.Parameter.empty for parameter in parameters)
        ),
        "gradient": everyone(place, module.weight.grad),
    }


def by_keyword(place: Place, *, gradients: Rows) -> Answers:
    """Passes the module as `module=`, and returns the gradient."""
    own = gradients[place.rank]
    module = Line(len(own)).to(place.device)
    ddp = DistributedDataParallel(module=module, process_group=place.group)
    ddp(tensor(place, [own])).sum().backward()
    return {"gradient": everyone(place, module.weight.grad)}


def before_init(place: Place) -> Answers:
    """Constructs DDP in a process that has not called `init_process_group`."""
    module = nn.Linear(2, 1).to(place.device)
    with uninitialised():
        return refusal(
            lambda: DistributedDataParallel(module), ValueError, "call init_process_group"
        )


def nccl_refused(place: Place) -> Answers:
    """Calls `init_process_group("nccl")` where torch is built without NCCL.

    Raises:
        NotExercised: if this build has NCCL.
    """
    if dist.is_nccl_available():
        raise NotExercised("this torch is built with NCCL")
    del place
    with uninitialised():
        return refusal(
            lambda: dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1),
            RuntimeError,
            "doesn't have NCCL built in",
        )


def processes(place: Place, *, gradients: Rows) -> Answers:
    """Counts the ranks' processes, and returns their backend and the gradient."""
    on_the_cpu(place)
    own = gradients[place.rank]
    module = Line(len(own))
    ddp = parallel(place, module)
    ddp(tensor(place, [own])).sum().backward()
    return {
        "processes": np.array(len(set(objects(place, os.getpid())))),
        "backend": text(str(dist.get_backend(place.group))),
        "gradient": everyone(place, module.weight.grad),
    }
