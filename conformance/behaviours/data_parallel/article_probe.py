"""Probes `torch.nn.DataParallel` as the article has it: container, parameters, example."""

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

# Replicas that run together meet within so many seconds.
PATIENCE_S = 10.0


def container(place: Place, *, batch: int, devices: int) -> Answers:
    """Asks what the container holds, before and after a forward (PA1)."""
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
    """Lets the replicas wait for each other, which needs all to run at once (PA2, PA16)."""
    where = devices_of(place, devices)
    x = where.counting(batch)
    meeting = threading.Barrier(len(x.chunk(devices)))
    records: list[tuple[Any, int, int, int, bool]] = []

    def note(self: nn.Module, x: Tensor) -> Tensor:
        try:
            meeting.wait(PATIENCE_S)
            met = True
        except threading.BrokenBarrierError:
            met = False
        thread, weight = threading.current_thread(), self.weight
        records.append((thread, os.getpid(), weight.numel(), weight.data_ptr(), met))
        return x

    where.parallel(Weighted((4, 3), note))(x)
    threads_of, processes, elements, memories, met = zip(*records, strict=True)
    return {
        "replicas": np.array(len(records)),
        "threads": np.array(len(set(threads_of))),
        "callers_threads": np.array(threads_of.count(threading.current_thread())),
        "callers_processes": np.array(processes.count(os.getpid())),
        "elements": integers(elements),
        "memories": np.array(len(set(memories))),
        "together": np.array(all(met)),
    }


def rows_seen(place: Place, *, batch: int, devices: int) -> Answers:
    """Asks of every replica, in device order, which samples it got (PA4)."""
    where = devices_of(place, devices)

    def marks(_self: nn.Module, x: Tensor) -> Tensor:
        samples = torch.arange(1.0, batch + 1.0, device=x.device)
        return (x[:, None] == samples).sum(0, keepdim=True)

    return {"seen": numbers(where.parallel(Call(marks))(where.counting(batch)))}


def _by_torchs_constructor(place: Place, module: nn.Module, here: int, **options: Any) -> Any:
    """Calls the constructor of the real class; on the host it finds `here` devices."""
    requested = options.get("device_ids") or range(here)
    if place.implementation != data_parallel.HOST:
        devices_of(place, max(map(_index, requested)) + 1)
        count = torch.accelerator.device_count()
        if options.get("device_ids") is None and count != here:
            raise NotExercised(f"wants {here} accelerators exactly, and here are {count}")
        return DataParallel(module, **options)
    devices_of(place, here)
    constructor = rebound(
        DataParallel.__init__,
        _get_available_device_type=lambda: "cuda",
        _get_all_device_indices=lambda: list(range(here)),
        _check_balance=lambda _: None,
    )
    host_class = type("Made", (data_parallel.HOST_CLASS,), {"__init__": constructor})
    return host_class(module, **options)


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
    """Asks how constructor and forward use the device arguments (P9, PA3, PA6, PA10 to PA12).

    A device that is a text is passed as a torch.device of its index.
    """
    kind = "cuda" if place.implementation == data_parallel.HOST else torch.device(place.device).type
    options: dict[str, Any] = {}
    if device_ids is not None:
        options["device_ids"] = [
            torch.device(kind, _index(device)) if isinstance(device, str) else device
            for device in device_ids
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
        # The module is on the host, whatever its device is called.
        net.src_device_obj = torch.device("cpu")
    output = net(torch.arange(batch, device=net.module.to(net.src_device_obj).weight.device) + 1.0)
    on = output.device.index
    return {
        **answers,
        "output": numbers(output),
        "used": integers(used),
        "gathered_on": integers(gathered_on if on is None else [on]),
    }


def _wanted_on(net: Any, batch: int) -> int:
    """Returns the index of the device that forward names for a module on the CPU, or −1."""
    try:
        net(torch.ones(batch))
    except RuntimeError as error:
        match = re.search(r"on device \w+:(\d+) \(device_ids\[0\]\)", str(error))
        return int(match[1]) if match else -1
    return -1


def example(place: Place, *, batch: int, devices: int, given_on: str) -> Answers:
    """Runs a small network over the devices, and beside it the network alone (PA13, PA14).

    The input is on the CPU, or on the first or the last device.
    """
    where = devices_of(place, devices)
    layers = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    for parameter in layers.parameters():
        steps = torch.arange(float(parameter.numel())).reshape(parameter.shape)
        parameter.data = steps * 5 % 7 - 3
    sizes: list[int] = []
    layers.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[0]))
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
    """Compares a mean loss's gradient with the module's alone and with DDP's mean (PA5, PA7).

    A rank of DDP has the gradient of its own shard's mean loss, which the module alone computes
    here; the ranks hold the mean of these gradients (D2, D3).
    """
    where = devices_of(place, devices)
    module = Weighted((1,), lambda self, x: x * self.weight)
    # 2520 is divisible by every length, so that no mean rounds.
    x = 2520 * where.counting(batch)

    def gradient(net: nn.Module, part: Tensor) -> np.ndarray:
        module.weight.grad = None
        net(part).mean().backward()
        return numbers(module.weight.grad)

    parallel_gradient = gradient(where.parallel(module), x)
    replicas = len(module.log)
    of_ranks = np.mean([gradient(module, part) for part in x.chunk(devices)], axis=0)
    advice = "It is recommended to use :class:`~torch.nn.parallel.DistributedDataParallel`"
    return {
        "replicas": np.array(replicas),
        "gradient": parallel_gradient,
        "as_alone": np.array(np.array_equal(parallel_gradient, gradient(module, x))),
        "as_ranks": np.array(np.array_equal(parallel_gradient, of_ranks)),
        "advised": np.array(advice in " ".join((DataParallel.__doc__ or "").split())),
    }


def no_deprecation(place: Place, *, batch: int, devices: int) -> Answers:
    """Constructs, runs forward and backward, and counts deprecations (PA15)."""
    where = devices_of(place, devices)
    module = Weighted((1,), lambda self, x: x * self.weight)
    old = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
    with warned() as caught:
        chosen = list(range(devices))
        net = _by_torchs_constructor(place, module.to(where.first), devices, device_ids=chosen)
        where.parallel(module)(where.counting(batch)).sum().backward()
    deprecations = [
        w for w in caught if issubclass(w.category, old) or "deprecat" in str(w.message)
    ]
    return {
        "replicas": np.array(len(module.log)),
        "devices": np.array(len(net.device_ids)),
        "gradient": numbers(module.weight.grad),
        "deprecations": np.array(len(deprecations)),
        "marked": np.array(hasattr(DataParallel, "__deprecated__")),
    }


def both_classes(place: Place, *, batch: int, devices: int) -> Answers:
    """Asks what both classes have in common, and how this one runs replicas (PA16)."""
    observed = threads(place, batch=batch, devices=devices)
    both = (DataParallel, DistributedDataParallel)
    return {
        **{key: observed[key] for key in ("replicas", "threads", "callers_processes", "together")},
        "are_modules": np.array([issubclass(cls, nn.Module) for cls in both]),
        "take": text(" ".join(next(iter(signature(cls).parameters)) for cls in both)),
    }


def not_a_module(place: Place, *, batch: int, devices: int) -> Answers:
    """Passes a function as module; forward refuses it, on an accelerator too (PA10)."""
    where = devices_of(place, devices)

    class NoModule:
        def to(self, _device: torch.device) -> "NoModule":
            return self

        def __call__(self, x: Tensor) -> Tensor:
            return x

    try:
        output = where.parallel(NoModule())(where.counting(batch))
    except AttributeError as error:
        return refused(error, "has no attribute 'parameters'")
    return {"output": numbers(output)}
