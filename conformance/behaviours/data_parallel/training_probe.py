"""Probes `torch.nn.DataParallel` in training: gradients, buffers, hooks and replicas."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel.data_parallel import DataParallel

from conformance.behaviours.data_parallel.probe import REAL, Call, devices_of, integers, numbers
from conformance.behaviours.probe import Answers, Place
from conformance.core.dtypes import text
from conformance.core.outcomes import NotExercised


class Weighted(nn.Module):
    """A module with a weight 1, 2, …, a function of the module and its input, and a log."""

    def __init__(self, shape: tuple[int, ...], function: Callable[..., Tensor]) -> None:
        super().__init__()
        start = torch.arange(1.0, 1 + np.prod(shape)).reshape(shape)
        self.weight = nn.Parameter(start)
        self.function = function
        # A replica has the same list.
        self.log: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        """Returns the function's value; `log` gets the length of the chunk."""
        self.log.append(x.shape[0])
        return self.function(self, x)


def summed_gradients(place: Place, *, batch: int, devices: int) -> Answers:
    """Counts sample b b + 1 times; a second backward adds the same again (P10)."""
    where = devices_of(place, devices)
    module = Weighted((3,), lambda self, x: (x * self.weight).sum(1))
    net = where.parallel(module)
    x = where.counting(batch, 3).requires_grad_()
    net(x).backward(where.counting(batch))
    once, input_gradient = numbers(module.weight.grad), numbers(x.grad)
    replicas = len(module.log)
    net(x).backward(where.counting(batch))
    return {
        "replicas": np.array(replicas),
        "gradient": once,
        "input_gradient": input_gradient,
        "twice": numbers(module.weight.grad),
    }


def tied_weight(place: Place, *, batch: int, devices: int) -> Answers:
    """Uses a weight, 2, under two names; the loss is Σ b·w·w·x (P10)."""
    where = devices_of(place, devices)
    first, second = (Weighted((1,), lambda self, x: x * self.weight) for _ in range(2))
    first.weight = second.weight = nn.Parameter(torch.tensor([2.0]))
    where.parallel(nn.Sequential(first, second))(where.counting(batch)).backward(
        where.counting(batch)
    )
    return {
        "replicas": np.array(len(first.log)),
        "gradient": numbers(first.weight.grad),
        "still_tied": np.array(first.weight is second.weight),
    }


def attributes(place: Place, *, batch: int, devices: int) -> Answers:
    """Counts up an attribute, and sets a new attribute, in forward (P11)."""
    where = devices_of(place, devices)
    calls: list[int] = []

    def note(self: Any, x: Tensor) -> Tensor:
        self.counter += 1
        self.fresh = x
        calls.append(x.shape[0])
        return x

    module = Call(note)
    module.counter = 0
    net = where.parallel(module)
    net(where.counting(batch))
    net(where.counting(batch))
    return {
        "calls": np.array(len(calls)),
        "counter": np.array(module.counter),
        "has_the_new_one": np.array(hasattr(module, "fresh")),
    }


def buffers(place: Place, *, batch: int, devices: int, in_place: bool) -> Answers:
    """Adds the sum of the chunk to a buffer, in place or by a new tensor (P11)."""
    where = devices_of(place, devices)
    sizes: list[int] = []

    def note(self: Any, x: Tensor) -> Tensor:
        sizes.append(x.shape[0])
        if in_place:
            self.total.add_(x.sum())
        else:
            self.total = self.total + x.sum()
        return x

    module = Call(note)
    module.register_buffer("total", torch.zeros(()))
    where.parallel(module)(where.counting(batch))
    return {"replicas": np.array(len(sizes)), "total": numbers(module.total)}


def running_statistics(place: Place, *, devices: int, momentum: float) -> Answers:
    """Runs a batch norm with two samples a device: its statistics are exact (P11, PA8)."""
    where = devices_of(place, devices)
    module = nn.BatchNorm1d(3, momentum=momentum)
    sizes: list[int] = []
    module.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[0]))
    where.parallel(module)(2 * where.counting(2 * devices, 3))
    return {
        "replicas": np.array(len(sizes)),
        "running_mean": numbers(module.running_mean),
        "running_var": numbers(module.running_var),
        "num_batches_tracked": numbers(module.num_batches_tracked),
    }


def hooks(place: Place, *, batch: int, devices: int) -> Answers:
    """Counts how often each hook ran for each chunk, by the chunk's first value (P12, PA9).

    The hooks are on a submodule; sample b is b + 1, and so is its cotangent, so that a backward
    hook also shows its chunk.
    """
    where = devices_of(place, devices)
    child = Weighted((1,), lambda self, x: x * self.weight)
    ran: dict[str, list[float]] = {"before": [], "after": [], "back_before": [], "back": []}
    lock = threading.Lock()

    def note(kind: str, tensors: tuple[Tensor, ...]) -> None:
        with lock:
            ran[kind].append(tensors[0].flatten()[0].item())

    child.register_forward_pre_hook(lambda _, inputs: note("before", inputs))
    child.register_forward_hook(lambda _, inputs, _output: note("after", inputs))
    child.register_full_backward_pre_hook(lambda _, cotangents: note("back_before", cotangents))
    child.register_full_backward_hook(lambda _, _inputs, cotangents: note("back", cotangents))
    x = where.counting(batch).requires_grad_()
    where.parallel(nn.Sequential(child))(x).backward(where.counting(batch))
    firsts = [chunk[0].item() for chunk in where.counting(batch).chunk(devices)]
    return {
        **{
            kind: integers([values.count(first) for first in firsts])
            for kind, values in ran.items()
        },
        "in_all": integers([len(values) for values in ran.values()]),
    }


def replica_weights(place: Place, *, batch: int, devices: int) -> Answers:
    """Adds Σ p² of its parameters() to every output, in a replica that has some (P13)."""
    where = devices_of(place, devices)
    records: list[tuple[int, bool, bool]] = []

    def penalised(self: nn.Module, x: Tensor) -> Tensor:
        parameters = list(self.parameters())
        records.append((len(parameters), self.weight.is_leaf, self.weight.requires_grad))
        return x * self.weight + sum((p * p).sum() for p in parameters)

    module = Weighted((1,), penalised)
    where.parallel(module)(where.counting(batch)).sum().backward()
    parameters, leaves, trained = zip(*records, strict=True)
    return {
        "parameters": integers(parameters),
        "leaves": np.array(leaves),
        "requires_grad": np.array(trained),
        "gradient": numbers(module.weight.grad),
    }


def mean_loss(place: Place, *, batch: int, devices: int, inside: bool) -> Answers:
    """Averages w·x; 2520 is divisible by every length, so that no mean rounds (P14)."""
    where = devices_of(place, devices)

    def loss_or_output(self: nn.Module, x: Tensor) -> Tensor:
        output = x * self.weight
        return output.mean().reshape(1) if inside else output

    module = Weighted((1,), loss_or_output)
    loss = where.parallel(module)(2520 * where.counting(batch)).mean()
    loss.backward()
    return {
        "replicas": np.array(len(module.log)),
        "loss": numbers(loss),
        "gradient": numbers(module.weight.grad),
    }


def state_keys(place: Place, *, devices: int, names: tuple[str, ...]) -> Answers:
    """Lists the state's keys of a module with these names; 0 devices pass through (P15)."""
    module = nn.Module()
    for index, name in enumerate(names):
        *path, last = name.split(".")
        owner = module
        for step in path:
            if not hasattr(owner, step):
                owner.add_module(step, nn.Module())
            owner = owner.get_submodule(step)
        if index % 2:
            owner.register_buffer(last, torch.zeros(1))
        else:
            owner.register_parameter(last, nn.Parameter(torch.zeros(1)))
    if devices:
        net = devices_of(place, devices).parallel(module)
    elif place.implementation == REAL and not torch.accelerator.is_available():
        net = DataParallel(module)
    else:
        raise NotExercised("asks what the real class does without an accelerator, and one is here")
    return {"keys": text("\n".join(sorted(net.state_dict())))}


def small_batch(place: Place, *, batch: int, devices: int) -> Answers:
    """Compares the gradient with the module's alone, and reads torch's advice (P16)."""
    where = devices_of(place, devices)
    module = Weighted((2,), lambda self, x: (x * self.weight).sum(1))
    where.parallel(module)(where.counting(batch, 2)).sum().backward()
    sizes, gradient = sorted(module.log), numbers(module.weight.grad)
    module.weight.grad = None
    module(where.counting(batch, 2)).sum().backward()
    advice = "The batch size should be larger than the number of GPUs used."
    return {
        "sizes": integers(sizes),
        "gradient": gradient,
        "as_alone": np.array(np.array_equal(gradient, numbers(module.weight.grad))),
        "advised": np.array(advice in " ".join((DataParallel.__doc__ or "").split())),
    }
