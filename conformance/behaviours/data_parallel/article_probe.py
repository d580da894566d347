"""`torch.nn.DataParallel` as the article has it: the container, its parameters, its example."""

import os
import re
import threading
from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parallel.data_parallel import DataParallel

from conformance.behaviours.data_parallel import probe as data_parallel
from conformance.behaviours.data_parallel.probe import (
    Call,
    devices_of,
    integers,
    numbers,
    refused,
    warned,
)
from conformance.behaviours.data_parallel.training_probe import Weighted
from conformance.behaviours.probe import Answers, Place
from conformance.core.dtypes import text
from conformance.core.outcomes import NotExercised
from conformance.frameworks.torch.host_data_parallel import rebound

PATIENCE_S = 10.0  # in which replicas that run together have met


def container(place: Place, *, batch: int, devices: int) -> Answers:
    """PA1: what the container holds, before and after it was used."""
    where = devices_of(place, devices)
    module = Weighted((1,), lambda self, x: x * self.weight)
    net = where.parallel(module)
    net(where.counting(batch))
    return {
        "replicas": np.array(len(module.log)),
        "is_module": np.array(isinstance(net, nn.Module)),
        "holds": text(" ".join(name for name, _ in net.named_children())),
        "same_module": np.array(net.module is module),
        "same_parameters": np.array([p is module.weight for p in net.parameters()]),
    }


def threads(place: Place, *, batch: int, devices: int) -> Answers:
    """PA2, PA16: the replicas wait for each other, which they can only where all run at once."""
    where = devices_of(place, devices)
    x = where.counting(batch)
    meeting = threading.Barrier(len(x.chunk(devices)))
    seen: list[tuple[Any, int, int, int, bool]] = []

    def note(self: nn.Module, x: Tensor) -> Tensor:
        try:
            meeting.wait(PATIENCE_S)
            met = True
        except threading.BrokenBarrierError:
            met = False
        thread, weight = threading.current_thread(), self.weight
        seen.append((thread, os.getpid(), weight.numel(), weight.data_ptr(), met))
        return x

    where.parallel(Weighted((4, 3), note))(x)
    of, processes, elements, memories, met = zip(*seen, strict=True)
    return {
        "replicas": np.array(len(seen)),
        "threads": np.array(len(set(of))),
        "callers_threads": np.array(of.count(threading.current_thread())),
        "callers_processes": np.array(processes.count(os.getpid())),
        "elements": integers(elements),
        "memories": np.array(len(set(memories))),
        "together": np.array(all(met)),
    }


def rows_seen(place: Place, *, batch: int, devices: int) -> Answers:
    """PA4: for replica r, in device order, which samples it was given."""
    where = devices_of(place, devices)

    def marks(_self: nn.Module, x: Tensor) -> Tensor:
        samples = torch.arange(1.0, batch + 1.0, device=x.device)
        return (x[:, None] == samples).sum(0, keepdim=True)

    return {"seen": numbers(where.parallel(Call(marks))(where.counting(batch)))}


def _by_torchs_constructor(place: Place, module: nn.Module, here: int, **options: Any) -> Any:
    """A net by the constructor of the real class; on the host, which is told of `here` devices."""
    asked = options.get("device_ids") or range(here)
    if place.implementation != data_parallel.HOST:
        devices_of(place, max(map(_index, asked)) + 1)
        found = torch.accelerator.device_count()
        if options.get("device_ids") is None and found != here:
            raise NotExercised(f"wants {here} accelerators exactly, and here are {found}")
        return DataParallel(module, **options)
    devices_of(place, here)
    constructor = rebound(
        DataParallel.__init__,
        _get_available_device_type=lambda: "cuda",
        _get_all_device_indices=lambda: list(range(here)),
        _check_balance=lambda _: None,
    )
    made = type("Made", (data_parallel.HOST_CLASS,), {"__init__": constructor})
    return made(module, **options)


def _index(device: int | str) -> int:
    return int(str(device).rpartition(":")[2])


def constructed(
    place: Place,
    *,
    here: int,
    batch: int,
    device_ids: Sequence[int | str] | None = None,
    output_device: int | None = None,
) -> Answers:
    """P9, PA3, PA6, PA10 to PA12: what the constructor is told, and what forward makes of it.

    A device given as a text is handed over as a torch.device of that index.
    """
    kind = "cuda" if place.implementation == data_parallel.HOST else torch.device(place.device).type
    options: dict[str, Any] = {}
    if device_ids is not None:
        options["device_ids"] = [
            torch.device(kind, _index(given)) if isinstance(given, str) else given
            for given in device_ids
        ]
    if output_device is not None:
        options["output_device"] = output_device
    module = Weighted((1,), lambda self, x: x * self.weight)
    net = _by_torchs_constructor(place, module, here, **options)
    answers = {
        "parameters": text(" ".join(signature(DataParallel).parameters)),
        "same_module": np.array(net.module is module),
        "device_ids": integers(net.device_ids),
        "output_device": np.array(net.output_device),
        "dim": np.array(net.dim),
        "module_wanted_on": np.array(_wanted_on(net, batch)),
    }
    used: list[int] = []
    gathered_on: list[int] = []
    replicate, gather = net.replicate, net.gather

    def replicating(module: nn.Module, devices: Sequence[int]) -> Any:
        used.extend(devices)
        return replicate(module, devices)

    def gathering(outputs: Any, device: int) -> Any:
        gathered_on.append(device)
        return gather(outputs, device)

    net.replicate, net.gather = replicating, gathering
    if place.implementation == data_parallel.HOST:
        net.src_device_obj = torch.device("cpu")  # where the module is, whatever the device
    output = net(torch.arange(batch, device=net.module.to(net.src_device_obj).weight.device) + 1.0)
    on = output.device.index
    return {
        **answers,
        "output": numbers(output),
        "used": integers(used),
        "gathered_on": integers(gathered_on if on is None else [on]),
    }


def _wanted_on(net: Any, batch: int) -> int:
    """The index of the device that forward names when the module is on the CPU; −1 for none."""
    try:
        net(torch.ones(batch))
    except RuntimeError as error:
        found = re.search(r"on device \w+:(\d+) \(device_ids\[0\]\)", str(error))
        return int(found[1]) if found else -1
    return -1


def example(place: Place, *, batch: int, devices: int, given_on: str) -> Answers:
    """PA13, PA14: a small network over the devices beside the same network alone.

    The input lies on the CPU, or on the first or the last device.
    """
    where = devices_of(place, devices)
    layers = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for parameter in layers.parameters():
        steps = torch.arange(float(parameter.numel())).reshape(parameter.shape)
        parameter.data = steps * 5 % 7 - 3
    sizes: list[int] = []
    layers.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[0]))
    net = where.parallel(layers)
    x = where.counting(batch, 3) % 5 - 2
    last = torch.device(where.kind, devices - 1) if where.kind != "cpu" else where.first
    place_of = {"cpu": torch.device("cpu"), "first": where.first, "last": last}[given_on]
    output = net(x.to(place_of))
    replicas = len(sizes)
    return {
        "replicas": np.array(replicas),
        "output": numbers(output),
        "as_alone": np.array(torch.equal(output, layers(x))),
        "on_first": np.array(output.device == where.first),
    }


def same_gradient(place: Place, *, batch: int, devices: int) -> Answers:
    """PA5, PA7: of a mean loss, beside the module's alone and the mean that DDP's ranks would take.

    A rank of DDP has the gradient of its own shard's mean loss, here by the module alone; what the
    ranks hold is the mean of those (D2, D3).
    """
    where = devices_of(place, devices)
    module = Weighted((1,), lambda self, x: x * self.weight)
    x = 2520 * where.counting(batch)  # divisible by every length: no mean rounds

    def gradient(net: nn.Module, part: Tensor) -> np.ndarray:
        module.weight.grad = None
        net(part).mean().backward()
        return numbers(module.weight.grad)

    found = gradient(where.parallel(module), x)
    replicas = len(module.log)
    of_ranks = np.mean([gradient(module, part) for part in x.chunk(devices)], axis=0)
    advice = "It is recommended to use :class:`~torch.nn.parallel.DistributedDataParallel`"
    return {
        "replicas": np.array(replicas),
        "gradient": found,
        "as_alone": np.array(np.array_equal(found, gradient(module, x))),
        "as_ranks": np.array(np.array_equal(found, of_ranks)),
        "advised": np.array(advice in " ".join((DataParallel.__doc__ or "").split())),
    }


def no_deprecation(place: Place, *, batch: int, devices: int) -> Answers:
    """PA15: construction, forward and backward still work, and nothing is called deprecated."""
    where = devices_of(place, devices)
    module = Weighted((1,), lambda self, x: x * self.weight)
    old = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
    with warned() as given:
        chosen = list(range(devices))
        made = _by_torchs_constructor(place, module.to(where.first), devices, device_ids=chosen)
        where.parallel(module)(where.counting(batch)).sum().backward()
    told = [w for w in given if issubclass(w.category, old) or "deprecat" in str(w.message)]
    return {
        "replicas": np.array(len(module.log)),
        "devices": np.array(len(made.device_ids)),
        "gradient": numbers(module.weight.grad),
        "deprecations": np.array(len(told)),
        "marked": np.array(hasattr(DataParallel, "__deprecated__")),
    }


def both_classes(place: Place, *, batch: int, devices: int) -> Answers:
    """PA16: modules around a module, of which this one runs replicas as threads of one process."""
    ran = threads(place, batch=batch, devices=devices)
    both = (DataParallel, DistributedDataParallel)
    return {
        **{key: ran[key] for key in ("replicas", "threads", "callers_processes", "together")},
        "are_modules": np.array([issubclass(one, nn.Module) for one in both]),
        "take": text(" ".join(next(iter(signature(one).parameters)) for one in both)),
    }


def not_a_module(place: Place, *, batch: int, devices: int) -> Answers:
    """PA10: a function where a module is wanted; on an accelerator too the error is forward's."""
    where = devices_of(place, devices)

    class Given:
        def to(self, _device: torch.device) -> "Given":
            return self

        def __call__(self, x: Tensor) -> Tensor:
            return x

    try:
        output = where.parallel(Given())(where.counting(batch))
    except AttributeError as error:
        return refused(error, "has no attribute 'parameters'")
    return {"output": numbers(output)}
