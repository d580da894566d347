"""Parts of the probes of DistributedDataParallel."""

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
        """Maps (n, F) to (n,)."""
        self.seen.append(x.detach().clone())
        y: torch.Tensor = (x * self.weight).sum(-1)
        return y


class Choice(nn.Module):
    """(a + b + …)·x, of the parameters that a forward names; all are (1,)."""

    def __init__(self, names: str) -> None:
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.ones(1)))

    def forward(self, x: torch.Tensor, used: str) -> torch.Tensor:
        """Maps (n,), with the letters of the parameters to use, to (n,)."""
        y: torch.Tensor = sum(getattr(self, name) * x for name in used)
        return y


def parallel(place: Place, module: nn.Module, **options: Any) -> Any:
    """Wraps the module in DistributedDataParallel, on the place's device and over its group.

    The caller must hold the result until the backward: without it nothing is averaged.
    """
    moved = module.to(place.device)
    return DistributedDataParallel(moved, process_group=place.group, **options)


def tensor(place: Place, values: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Makes a tensor on the place's device."""
    return torch.tensor(values, dtype=dtype, device=place.device)


def array(values: torch.Tensor | None) -> np.ndarray:
    """Copies the tensor's elements; a gradient that is None becomes an empty array."""
    if values is None:
        return np.zeros(0, np.float32)
    return values.detach().cpu().numpy().copy()


def everyone(place: Place, values: torch.Tensor | None) -> np.ndarray:
    """Gathers every rank's tensor, (W, …), on every rank."""
    return np.stack(objects(place, array(values)))


def objects(place: Place, item: Any) -> list[Any]:
    """Gathers every rank's object, in order, on every rank."""
    collected: list[Any] = [None] * place.world_size
    dist.all_gather_object(collected, item, group=place.group)
    return collected


def alike(place: Place, values: torch.Tensor) -> bool:
    """Says whether every rank has equal bits."""
    first, *others = (whole.tobytes() for whole in objects(place, array(values)))
    return all(other == first for other in others)


def refusal(attempt: Callable[[], object], kind: type[Exception], words: str) -> dict[str, Any]:
    """Calls an attempt; returns the type of its error, and whether the message has the words.

    Args:
        attempt: the call that must fail.
        kind: the promised error; any other error passes through.
        words: the words that the message must have.
    """
    try:
        attempt()
    except kind as error:
        return {"raised": text(type(error).__name__), "says": np.array(words in str(error))}
    return {"raised": text("nothing"), "says": np.array(False)}


def knows(option: str) -> None:
    """Requires that this torch's DistributedDataParallel has an argument.

    Raises:
        Unsupported: if it has no such argument.
    """
    if option not in inspect.signature(nn.parallel.DistributedDataParallel).parameters:
        raise Unsupported(f"DistributedDataParallel of torch {torch.__version__} has no {option}")


def on_the_cpu(place: Place) -> None:
    """Requires the CPU, since the case asks about a module there.

    Raises:
        NotExercised: on another device.
    """
    if torch.device(place.device).type != "cpu":
        raise NotExercised("this asks about a module on the CPU")


@contextmanager
def uninitialised() -> Iterator[None]:
    """Makes this process look as if it had never called `init_process_group`, for a while."""
    from torch.distributed import distributed_c10d as c10d

    world, groups = c10d._world, c10d._world.group_count
    c10d._world = c10d._World()
    try:
        yield
    finally:
        c10d._world = world
        # The names of later groups count on from here, equally in all ranks.
        world.group_count = groups
