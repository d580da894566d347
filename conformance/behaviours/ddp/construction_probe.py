"""What DistributedDataParallel does, and what it refuses, when it is constructed."""

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
    """A parameter and a buffer of every rank, built and after each rank changed its parameter.

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
    """Whether the ranks hold the same bits when built, and after each step of Adam.

    Rank r begins with `starts[r]` and has the gradient `gradients[r]`.
    """
    mine = gradients[place.rank]
    module = Line(len(mine), starts[place.rank]).to(place.device)
    apart = not alike(place, module.weight)
    ddp = parallel(place, module)
    agree = [alike(place, module.weight)]
    adam = torch.optim.Adam(ddp.parameters(), lr=0.1)
    for _ in range(steps):
        adam.zero_grad()
        ddp(tensor(place, [mine])).sum().backward()
        adam.step()
        agree.append(alike(place, module.weight))
    return {"apart_before": np.array(apart), "agree": np.array(agree)}


def without_gradient(place: Place, *, module: str) -> Answers:
    """A module in which no parameter requires a gradient."""
    modules = {
        "frozen": nn.Linear(2, 1).requires_grad_(requires_grad=False),
        "channel-shuffle": nn.ChannelShuffle(2),
        "trained": nn.Linear(2, 1),
    }
    return refusal(lambda: parallel(place, modules[module]), RuntimeError, _NO_GRADIENT)


def devices(
    place: Place, *, device_ids: Sequence[int] | None = None, output_device: int | None = None
) -> Answers:
    """A module on the CPU with these `device_ids`, or this `output_device`; and all warnings."""
    on_the_cpu(place)
    ids = device_ids if device_ids is None else list(device_ids)
    several = ids is not None and len(ids) > 1
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        told = refusal(
            lambda: parallel(place, nn.Linear(2, 1), device_ids=ids, output_device=output_device),
            ValueError,
            _ONE_DEVICE if several else _NO_DEVICE,
        )
    return {**told, "warnings": np.array(len(heard))}


def placing(place: Place, *, inputs: Rows) -> Answers:
    """What DDP does with a CPU module's device: refuses another, and leaves the module there.

    Each rank then runs its own input forward, and backward without synchronising: (W,) outputs
    and (W, F) gradients.
    """
    on_the_cpu(place)
    mine = inputs[place.rank]
    module = Line(len(mine))
    before = module.weight.device, module.weight.data_ptr()
    refused = refusal(
        lambda: parallel(place, module, device_ids=[0]),
        ValueError,
        _NO_DEVICE,
    )
    ddp = parallel(place, module)
    stays = before == (module.weight.device, module.weight.data_ptr())
    with ddp.no_sync():
        output = ddp(tensor(place, [mine]))
        output.sum().backward()
    return {
        **refused,
        "stays": np.array(stays),
        "device": text(str(module.weight.device)),
        "outputs": everyone(place, output)[:, 0],
        "gradients": everyone(place, module.weight.grad),
    }


def current_devices(place: Place, *, world_size: int) -> Answers:
    """`torch.cuda.current_device()` in a thread of each of W processes, where none was chosen.

    Raises:
        NotExercised: on another device than CUDA's.
    """
    del world_size
    if torch.device(place.device).type != "cuda":
        raise NotExercised("this asks which of the CUDA devices is the current one")
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as fresh:  # a device is chosen for one thread alone
        mine = fresh.submit(torch.cuda.current_device).result()
    return {"devices": np.array(objects(place, mine), np.int64)}


def gpu_module(place: Place) -> Answers:
    """A module on the first GPU with `device_ids=[0]`, and where its output then lies.

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
    """What DDP is, and what its attribute and its argument `module` are."""
    mine = gradients[place.rank]
    module = Line(len(mine)).to(place.device)
    ddp = parallel(place, module)
    ddp(tensor(place, [mine])).sum().backward()
    parameters = list(inspect.signature(DistributedDataParallel).parameters.values())
    return {
        "is_a_module": np.array(isinstance(ddp, nn.Module)),
        "same_module": np.array(ddp.module is module),
        "same_parameters": np.array(next(ddp.parameters()) is module.weight),
        "same_group": np.array(ddp.process_group is place.group),
        "first_argument": text(parameters[0].name),
        "required_arguments": np.array(
            sum(one.default is inspect.Parameter.empty for one in parameters)
        ),
        "gradient": everyone(place, module.weight.grad),
    }


def by_keyword(place: Place, *, gradients: Rows) -> Answers:
    """The gradient of the module handed over as `module=`."""
    mine = gradients[place.rank]
    module = Line(len(mine)).to(place.device)
    ddp = DistributedDataParallel(module=module, process_group=place.group)
    ddp(tensor(place, [mine])).sum().backward()
    return {"gradient": everyone(place, module.weight.grad)}


def before_init(place: Place) -> Answers:
    """Construction in a process that has not called `init_process_group`."""
    module = nn.Linear(2, 1).to(place.device)
    with uninitialised():
        return refusal(
            lambda: DistributedDataParallel(module), ValueError, "call init_process_group"
        )


def nccl_refused(place: Place) -> Answers:
    """`init_process_group("nccl")` where torch is built without it.

    Raises:
        NotExercised: this build has it.
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
    """How many processes the ranks are, what joins them, and the gradient they end up with."""
    on_the_cpu(place)
    mine = gradients[place.rank]
    module = Line(len(mine))
    ddp = parallel(place, module)
    ddp(tensor(place, [mine])).sum().backward()
    return {
        "processes": np.array(len(set(objects(place, os.getpid())))),
        "backend": text(str(dist.get_backend(place.group))),
        "gradient": everyone(place, module.weight.grad),
    }
