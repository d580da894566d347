"""Probes `torch.nn.DataParallel`: its devices, what it scatters and what it gathers.

An answer shows how many replicas ran, so that a run in which nothing was parallel differs. Replicas
are threads: they append to lists, which is atomic, and the gathered output brings their records
into device order.
"""

import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from string import ascii_lowercase
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel.data_parallel import DataParallel

from conformance.behaviours.probe import Answers, Place
from conformance.core.dtypes import text
from conformance.core.outcomes import NotExercised, Unsupported
from conformance.frameworks.torch.host_data_parallel import HostDataParallel

HOST, REAL = "torch_host_data_parallel", "torch_data_parallel"
# A test replaces this class by a broken one.
HOST_CLASS: type[Any] = HostDataParallel

# A tensor, as its length, or an `object`, a `scalar` (0-d), `none`, or a container: type and items.
Structure: TypeAlias = "int | str | tuple[Structure, ...]"


class Pair(NamedTuple):
    """A named tuple, as an input or an output."""

    left: Any
    right: Any


class Call(nn.Module):
    """A module that calls a function with itself and its inputs, as its replicas do."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Returns what the function returns."""
        return self.function(self, *inputs, **named)


@dataclass(frozen=True)
class Devices:
    """The devices over which the class under test splits; `kind` is their type, `cpu` the host."""

    kind: str
    number: int

    @property
    def first(self) -> torch.device:
        """Returns the device that holds the module."""
        return torch.device("cpu") if self.kind == "cpu" else torch.device(self.kind, 0)

    def parallel(self, module: nn.Module, **options: Any) -> Any:
        """Wraps the module in the class under test, and moves it to the first device."""
        if self.kind == "cpu":
            return HOST_CLASS(module, self.number, **options)
        return DataParallel(module.to(self.first), list(range(self.number)), **options)

    def counting(self, *shape: int) -> Tensor:
        """Returns 1, 2, 3, … in f32, on the first device."""
        return torch.arange(1.0, 1 + np.prod(shape), device=self.first).reshape(shape)


def devices_of(place: Place, number: int) -> Devices:
    """Returns the devices of the implementation's class.

    Raises:
        NotExercised: if there are too few accelerators for the real class.
        Unsupported: if the check asks the host's class on an accelerator.
    """
    kind = torch.device(place.device).type
    if place.implementation == HOST:
        if kind != "cpu":
            raise Unsupported("HostDataParallel is on the host alone: ask it on the CPU")
        return Devices("cpu", number)
    if place.implementation != REAL:
        raise ValueError(f"{place.implementation} uses neither class that is probed here")
    if kind == "cpu":
        raise NotExercised("on the CPU torch.nn.DataParallel passes through: nothing is parallel")
    available = torch.accelerator.device_count() if kind != "mps" else 0
    if available < number:
        raise NotExercised(f"needs {number} accelerators, and here are {available}")
    return Devices(kind, number)


def numbers(tensor: Tensor) -> np.ndarray:
    """Copies the tensor's values to NumPy."""
    return np.array(tensor.detach().cpu().numpy())


def integers(values: Sequence[int]) -> np.ndarray:
    """Makes an array of i64."""
    return np.array(values, dtype=np.int64)


def refused(error: Exception, words: str) -> dict[str, np.ndarray]:
    """Returns the error's type, and whether its message has the promised words."""
    return {"raised": text(type(error).__name__), "says": np.array(words in str(error))}


@contextmanager
def warned() -> Iterator[list[warnings.WarningMessage]]:
    """Records the warnings of every thread, and prints none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def _one_each(x: Tensor, value: int) -> Tensor:
    """Makes a number of a shape that is gathered in device order along any dimension."""
    return x.new_full([1] * x.dim(), value)


# The devices.


def pass_through(place: Place, *, batch: int, asked: tuple[int, ...] | None, dim: int) -> Answers:
    """Runs the real class on a machine without an accelerator (P1)."""
    if place.implementation != REAL or torch.accelerator.is_available():
        raise NotExercised("asks what the real class does without an accelerator, and one is here")
    calls: list[tuple[Any, Any, Tensor]] = []

    def note(self: nn.Module, x: Tensor) -> Tensor:
        calls.append((self, threading.current_thread(), x))
        return x + 1

    module, x = Call(note), torch.ones(batch, 2)
    with warned() as caught:
        net = DataParallel(module, None if asked is None else list(asked), dim=dim)
        output = net(x)
    return {
        "device_ids": integers(net.device_ids),
        "calls": np.array(len(calls)),
        "module_itself": np.array([called is module for called, _, _ in calls]),
        "callers_thread": np.array(
            [thread is threading.current_thread() for _, thread, _ in calls]
        ),
        "input_itself": np.array([passed is x for _, _, passed in calls]),
        "output": numbers(output),
        "warnings": np.array(len(caught)),
    }


def one_device(place: Place, *, batch: int, returns: str) -> Answers:
    """Runs a single device, where an output may have a type that cannot be gathered (P2)."""
    where = devices_of(place, 1)
    calls: list[tuple[Any, Any, int]] = []
    outputs = {"tensor": where.counting(3), "scalar": where.counting(1)[0], "object": object()}

    def note(self: nn.Module, x: Tensor) -> Any:
        calls.append((self, threading.current_thread(), x.shape[0]))
        return outputs[returns]

    module = Call(note)
    net = where.parallel(module)
    with warned() as caught:
        output = net(where.counting(batch, 2))
    return {
        "sizes": integers([size for _, _, size in calls]),
        "module_itself": np.array([called is module for called, _, _ in calls]),
        "callers_thread": np.array(
            [thread is threading.current_thread() for _, thread, _ in calls]
        ),
        "output_itself": np.array(output is outputs[returns]),
        "warnings": np.array(len(caught)),
    }


# The scattered inputs.


def chunk_sizes(place: Place, *, batch: int, devices: int, dim: int = 0) -> Answers:
    """Gathers the chunks' sizes, of inputs by position and by name along `dim` (P3, P4)."""
    where = devices_of(place, devices)
    # The default of `dim` is 0.
    options = {"dim": dim} if dim else {}
    first = where.counting(*(2,) * dim, batch, 3)
    second = where.counting(*(2,) * dim, batch)
    replicas: list[nn.Module] = []

    def sizes(self: nn.Module, x: Tensor, *, y: Tensor) -> tuple[Tensor, Tensor]:
        replicas.append(self)
        return _one_each(x, x.shape[dim]), _one_each(x, y.shape[dim])

    sizes_by_position, sizes_by_name = where.parallel(Call(sizes), **options)(first, y=second)
    return {
        "sizes": numbers(sizes_by_position.flatten()).astype(np.int64),
        "sizes_by_name": numbers(sizes_by_name.flatten()).astype(np.int64),
        "replicas": np.array(len(set(map(id, replicas)))),
        "idle": np.array(devices - len(replicas)),
    }


def _built(structure: Structure, where: Devices, leaf: Iterator[int]) -> Any:
    """Builds the object; tensor number k holds 100·k + 1, 100·k + 2, …."""
    match structure:
        case int(length):
            start = 100 * next(leaf)
            return torch.arange(start + 1.0, start + length + 1.0, device=where.first)
        case "scalar":
            return torch.tensor(1.0, device=where.first)
        case "object":
            return object()
        case "none":
            return None
        case (name, *items):
            return _contained(name, [_built(item, where, leaf) for item in items])
    raise ValueError(f"no such structure: {structure}")


def _contained(name: Structure, parts: list[Any]) -> Any:
    match name:
        case "Pair":
            return Pair(*parts)
        case "dict":
            return dict(zip(ascii_lowercase, parts, strict=False))
        case "tuple":
            return tuple(parts)
    return parts


def _described(argument: Any, original: Any) -> str:
    """Describes an argument of a replica; a tensor by its first and last value."""
    if isinstance(argument, Tensor):
        return f"{argument[0]:g}..{argument[-1]:g}" if len(argument) else "empty"
    if isinstance(argument, dict) and argument:
        inner = (f"{key}: {_described(part, original[key])}" for key, part in argument.items())
    elif isinstance(argument, tuple | list) and argument:
        inner = (_described(*both) for both in zip(argument, original, strict=True))
    else:
        return "itself" if argument is original else f"another {type(argument).__name__}"
    return f"{type(argument).__name__}({', '.join(inner)})"


def scattered(
    place: Place,
    *,
    devices: int,
    positional: tuple[Structure, ...] = (),
    named: tuple[Structure, ...] = (),
) -> Answers:
    """Describes the arguments of every replica, or the error; names are a, b, … (P3 to P7)."""
    where = devices_of(place, devices)
    leaf = count()
    inputs = tuple(_built(structure, where, leaf) for structure in positional)
    by_name = {
        name: _built(structure, where, leaf)
        for name, structure in zip(ascii_lowercase, named, strict=False)
    }
    descriptions: list[str] = []
    lock = threading.Lock()

    def note(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Tensor:
        words = " ".join(
            _described(*both) if both[0] else "nothing"
            for both in ((arguments, inputs), (keywords, by_name))
        )
        with lock:
            descriptions.append(words)
            return torch.tensor([len(descriptions) - 1], device=where.kind)

    def needs_first(_self: nn.Module, first: Any, *others: Any, **keywords: Any) -> Tensor:
        return note((first, *others), keywords)

    def needs_nothing(_self: nn.Module, **keywords: Any) -> Tensor:
        return note((), keywords)

    net = where.parallel(Call(needs_first if positional else needs_nothing))
    try:
        with warned() as caught:
            order = net(*inputs, **by_name).tolist()
    except TypeError as error:
        match = re.search(r"in replica (\d+)", str(error))
        words = "missing 1 required positional argument: 'first'"
        return {**refused(error, words), "in_replica": np.array(int(match[1]) if match else -1)}
    except AssertionError as error:
        match = re.search(
            r"modules (\d+) is not equal to the number of kwargs_tup (\d+)", str(error)
        )
        counts = [int(number) for number in match.groups()] if match else []
        return {**refused(error, "kwargs_tup"), "counts": integers(counts)}
    except RuntimeError as error:
        return refused(error, "at least a 1-dimensional tensor")
    return {
        "replicas": np.array(len(order)),
        "warnings": np.array(len(caught)),
        **{f"replica/{device}": text(descriptions[number]) for device, number in enumerate(order)},
    }


def misplaced(place: Place, *, devices: int, what: str) -> Answers:
    """Moves a parameter or buffer elsewhere, runs two forwards, and moves it back (P8)."""
    where = devices_of(place, devices)
    net = where.parallel(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2, momentum=None)))
    norm, x = net.module[1], where.counting(2 * devices, 2)
    name = {"parameter": "weight", "buffer": "running_var"}[what]
    right = getattr(norm, name)
    elsewhere = torch.empty(2, device="meta")
    setattr(norm, name, nn.Parameter(elsewhere) if what == "parameter" else elsewhere)
    answers: dict[str, np.ndarray] = {}
    for attempt in range(2):
        try:
            net(x)
        except RuntimeError as error:
            fields = refused(error, f"on device {where.first} (device_ids[0])")
            answers |= {f"{attempt}/{key}": value for key, value in fields.items()}
            answers[f"{attempt}/names_other"] = np.array("on device: meta" in str(error))
    setattr(norm, name, right)
    return {**answers, "size_when_right": np.array(net(x).shape[0])}


# The gathered outputs.


def concatenated(place: Place, *, shape: tuple[int, ...], devices: int, dim: int) -> Answers:
    """Adds the length of its chunk in every replica, so that the seams show (P9)."""
    where = devices_of(place, devices)
    net = where.parallel(Call(lambda _self, x: x + x.shape[dim]), dim=dim)
    output = net(where.counting(*shape))
    return {"output": numbers(output), "on_first": np.array(output.device == where.first)}


def returned(place: Place, *, batch: int, devices: int, structure: Structure) -> Answers:
    """Returns a container of tensors, of which number k is the chunk plus 100·k (P9)."""
    where = devices_of(place, devices)
    replicas: list[nn.Module] = []

    def give(self: nn.Module, x: Tensor) -> Any:
        replicas.append(self)
        leaf = count()

        def build(part: Structure) -> Any:
            match part:
                case int():
                    return x + 100 * next(leaf)
                case (name, *items):
                    return _contained(name, [build(item) for item in items])
            return None

        return build(structure)

    output = where.parallel(Call(give))(where.counting(batch))
    return {"output": text(_described(output, output)), "replicas": np.array(len(replicas))}


def scalars(place: Place, *, batch: int, devices: int, dim: int) -> Answers:
    """Returns 0-d outputs, and pulls a gradient back through the vector of them (P9)."""
    where = devices_of(place, devices)
    net = where.parallel(Call(lambda _self, x: x.sum()), dim=dim)
    x = where.counting(*(1,) * dim, batch).requires_grad_()
    try:
        with warned() as caught:
            output = net(x)
    except IndexError as error:
        return refused(error, "dimension")
    output.backward(where.counting(len(output)))
    return {
        "output": numbers(output),
        "gradient": numbers(x.grad),
        "warnings": np.array(len(caught)),
        "says": np.array(all("all input tensors were scalars" in str(w.message) for w in caught)),
    }
