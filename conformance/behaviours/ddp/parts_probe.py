"""What the probes of DistributedDataParallel are made of."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from conformance.behaviours.probe import Place
from conformance.core.dtypes import text
from conformance.core.outcomes import NotExercised, Unsupported

Rows = Sequence[Sequence[float]]


class Line(nn.Module):
    """w·x for each sample, so that the gradient of a sum of outputs is the sum of the samples.

    Attributes:
        weight: (F,).
        seen: the input of every forward so far.
    """

    def __init__(
        self, features: int = 1, start: float = 1.0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((features,), start, dtype=dtype))
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, F) → (n,)."""
        self.seen.append(x.detach().clone())
        y: torch.Tensor = (x * self.weight).sum(-1)
        return y


class Choice(nn.Module):
    """(a + b + …)·x, of as many of its parameters as each forward names; all (1,)."""

    def __init__(self, names: str) -> None:
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.ones(1)))

    def forward(self, x: torch.Tensor, used: str) -> torch.Tensor:
        """(n,) and the letters of the parameters to use → (n,)."""
        y: torch.Tensor = sum(getattr(self, name) * x for name in used)
        return y


def parallel(place: Place, module: nn.Module, **options: Any) -> Any:
    """DistributedDataParallel of the module, moved to the place's device, over its group.

    It must be held until the backward: where it is gone by then, nothing is averaged.
    """
    moved = module.to(place.device)
    return DistributedDataParallel(moved, process_group=place.group, **options)


def tensor(place: Place, values: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """These numbers, on the place's device."""
    return torch.tensor(values, dtype=dtype, device=place.device)


def array(given: torch.Tensor | None) -> np.ndarray:
    """The tensor's elements; an empty array for the gradient that is None."""
    if given is None:
        return np.zeros(0, np.float32)
    return given.detach().cpu().numpy().copy()


def everyone(place: Place, given: torch.Tensor | None) -> np.ndarray:
    """What each rank gave, (W, …), on every rank."""
    return np.stack(objects(place, array(given)))


def objects(place: Place, given: Any) -> list[Any]:
    """What each rank gave, in order, on every rank."""
    collected: list[Any] = [None] * place.world_size
    dist.all_gather_object(collected, given, group=place.group)
    return collected


def alike(place: Place, given: torch.Tensor) -> bool:
    """Whether every rank gave the same bits."""
    first, *others = (whole.tobytes() for whole in objects(place, array(given)))
    return all(other == first for other in others)


def refusal(attempt: Callable[[], object], kind: type[Exception], words: str) -> dict[str, Any]:
    """What became of an attempt: the type of its error, and whether that says the words.

    Args:
        attempt: what must fail.
        kind: the error that is promised; any other passes through.
        words: what its message must hold.
    """
    try:
        attempt()
    except kind as error:
        return {"raised": text(type(error).__name__), "says": np.array(words in str(error))}
    return {"raised": text("nothing"), "says": np.array(False)}


def knows(option: str) -> None:
    """Go no further where this torch's DistributedDataParallel has no such argument.

    Raises:
        Unsupported: it has none.
    """
    if option not in inspect.signature(nn.parallel.DistributedDataParallel).parameters:
        raise Unsupported(f"DistributedDataParallel of torch {torch.__version__} has no {option}")


def on_the_cpu(place: Place) -> None:
    """Go no further on another device: the case asks about a module on the CPU.

    Raises:
        NotExercised: on another device.
    """
    if torch.device(place.device).type != "cpu":
        raise NotExercised("this asks about a module on the CPU")


@contextmanager
def uninitialised() -> Iterator[None]:
    """For a while, this process has never called `init_process_group`; the groups live on."""
    from torch.distributed import distributed_c10d as c10d

    world, groups = c10d._world, c10d._world.group_count
    c10d._world = c10d._World()
    try:
        yield
    finally:
        c10d._world = world
        world.group_count = groups  # names of later groups count on, alike in all ranks
