"""Probes DistributedDataParallel's `.grad`: the mean over the ranks, and how it rounds."""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from conformance.behaviours.ddp.parts_probe import (
    Line,
    Rows,
    alike,
    array,
    everyone,
    knows,
    parallel,
    tensor,
)
from conformance.behaviours.probe import Answers, Place
from conformance.core.dtypes import text
from conformance.core.outcomes import NotExercised


def mean(place: Place, *, gradients: Rows) -> Answers:
    """Returns what each rank holds, (W, F), where rank r's own gradient is `gradients[r]`."""
    own = gradients[place.rank]
    module = Line(len(own))
    ddp = parallel(place, module)
    ddp(tensor(place, [own])).sum().backward()
    return {"gradients": everyone(place, module.weight.grad)}


def same_bits(place: Place, *, features: int, bucket_cap_mb: float = 25.0) -> Answers:
    """Says whether the ranks' gradients have equal bits, on data where sums round."""
    module = nn.Sequential(*(Line(features) for _ in range(3)))
    ddp = parallel(place, _Sum(module), bucket_cap_mb=bucket_cap_mb)
    x = _rounding(place, features)
    with ddp.no_sync():
        ddp(x).backward()
    own = [alike(place, line.weight.grad) for line in module]
    ddp.zero_grad()
    ddp(x).backward()
    averaged = [alike(place, line.weight.grad) for line in module]
    return {"own_agree": np.array(own), "averaged_agree": np.array(averaged)}


def unequal_shards(
    place: Place, *, shards: Sequence[Sequence[float]], reduction: str = "mean"
) -> Answers:
    """Returns the gradient (1,) of w·x, where rank r has the samples `shards[r]`."""
    module = Line()
    ddp = parallel(place, module)
    y = ddp(tensor(place, shards[place.rank]).unsqueeze(-1))
    (y.mean() if reduction == "mean" else y.sum()).backward()
    return {"gradient": array(module.weight.grad)}


_VIEW = {"gradient_as_bucket_view": True}
_PATHS: dict[str, tuple[dict[str, bool], str]] = {
    "default-set-to-none": ({}, "none"),
    "default-zeroed": ({}, "zeroed"),
    "bucket-view-set-to-none": (_VIEW, "none"),
    "bucket-view-zeroed": (_VIEW, "zeroed"),
    "batched-copy-set-to-none": ({"batched_grad_copy": True}, "none"),
    "builtin-hook-set-to-none": ({}, "none"),
}


def scaling(place: Place, *, gradients: Rows, path: str, steps: int) -> Answers:
    """Returns the mean's bits in each of several steps, (steps, F) in f64, on a path of DDP."""
    options, between = _PATHS[path]
    for option in options:
        knows(option)
    x = tensor(place, [gradients[place.rank]], torch.float64)
    module = Line(x.shape[-1], dtype=torch.float64)
    ddp = parallel(place, module, **options)
    if path.startswith("builtin-hook"):
        ddp._register_builtin_comm_hook(dist.BuiltinCommHookType.ALLREDUCE)
    bits = []
    for _ in range(steps):
        ddp.zero_grad(set_to_none=between == "none")
        ddp(x).sum().backward()
        bits.append(array(module.weight.grad))
    return {"gradients": np.stack(bits)}


class _Tied(nn.Module):
    """Two layers that share a weight, each with its own input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(1, 1, bias=False)
        self.second = nn.Linear(1, 1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (2,) to a scalar."""
        y: torch.Tensor = (self.first(x[:1]) + self.second(x[1:])).sum()
        return y


def tied(place: Place, *, uses: Rows) -> Answers:
    """Returns the gradient of a weight that two layers share; rank r's inputs are `uses[r]`."""
    module = _Tied()
    ddp = parallel(place, module)
    ddp(tensor(place, uses[place.rank])).backward()
    return {
        "parameters": np.array(len(list(ddp.parameters()))),
        "gradients": everyone(place, module.first.weight.grad).reshape(-1, 1),
        "same_gradient": np.array(module.second.weight.grad is module.first.weight.grad),
    }


class _Sum(nn.Module):
    """The sum of several lines' outputs for the same input."""

    def __init__(self, lines: nn.Module) -> None:
        super().__init__()
        self.lines = lines

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, F) to a scalar."""
        y: torch.Tensor = torch.stack([line(x) for line in self.lines]).sum()
        return y


def _rounding(place: Place, features: int) -> torch.Tensor:
    """Makes a sample (1, F) of fractions that no binary number equals."""
    bottom = torch.arange(features) * 7 + place.rank * 11 + 3
    return (1 / bottom.double()).to(torch.float32).unsqueeze(0).to(place.device)


def repeated_steps(
    place: Place, *, features: int, steps: int, rounds: bool, world_size: int
) -> Answers:
    """Says whether each step on the same data repeats the bits of the first, and of the second.

    Args:
        place: the place where the probe runs.
        features: how many parameters there are.
        steps: how many steps.
        rounds: whether sums over the ranks round on the data.
        world_size: W.
    """
    x = _rounding(place, features)
    if not rounds:
        x = tensor(place, [[world_size * (f + place.rank) for f in range(features)]])
    module = Line(features)
    ddp = parallel(place, module)
    all_bits = []
    for _ in range(steps):
        ddp.zero_grad()
        ddp(x).sum().backward()
        all_bits.append(array(module.weight.grad).tobytes())
    answers = {"repeats_second": np.array([bits == all_bits[1] for bits in all_bits[1:]])}
    if not rounds or world_size == 2:
        answers["repeats_first"] = np.array([bits == all_bits[0] for bits in all_bits])
    return answers


class _Chain(nn.Module):
    """Three parameters, by which the input is multiplied in an order."""

    def __init__(self, order: str) -> None:
        super().__init__()
        for name in sorted(order):
            self.register_parameter(name, nn.Parameter(torch.ones(1)))
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (1,) to a scalar."""
        for name in self.order:
            x = x * getattr(self, name)
        return x.sum()


def bucket_orders(place: Place, *, used: str, steps: int) -> Answers:
    """Returns the order of the parameters in the only bucket, step by step, as a hook gets it."""
    module = _Chain(used)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    ddp = parallel(place, module)
    orders = []

    def look(group: dist.ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future:
        orders.append("".join(names[id(parameter)] for parameter in bucket.parameters()))
        work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    # DDP would compare the annotations with its own, generic type.
    look.__annotations__.clear()
    ddp.register_comm_hook(place.group, look)
    for _ in range(steps):
        ddp.zero_grad()
        ddp(tensor(place, [1.0])).backward()
    return {"orders": text(" ".join(orders))}


def subgroup(place: Place, *, gradients: Rows) -> Answers:
    """Averages over a group of fewer ranks than there are.

    Raises:
        NotExercised: if the group is the whole world.
    """
    if dist.get_world_size() == place.world_size:
        raise NotExercised("every rank there is takes part, so that no group is smaller")
    return mean(place, gradients=gradients)


def default_group(place: Place, *, gradients: Rows) -> Answers:
    """Averages without naming a group.

    Raises:
        NotExercised: if not every rank takes part.
    """
    if dist.get_world_size() != place.world_size:
        raise NotExercised("the default group has ranks that do not take part")
    own = gradients[place.rank]
    module = Line(len(own)).to(place.device)
    ddp = DistributedDataParallel(module)
    ddp(tensor(place, [own])).sum().backward()
    return {
        "is_the_world": np.array(ddp.process_group is dist.group.WORLD),
        "gradients": everyone(place, module.weight.grad),
    }


def default_is_the_world(place: Place) -> Answers:
    """Returns DDP's default group; nothing is sent, so that any ranks may ask."""
    ddp = DistributedDataParallel(Line().to(place.device), init_sync=False)
    return {"is_the_world": np.array(ddp.process_group is dist.group.WORLD)}


@contextmanager
def _on_nodes(place: Place, nodes: Sequence[int]) -> Iterator[None]:
    """Sets the environment variables by which torchrun describes a rank's node."""
    node = nodes[place.rank]
    variables = {
        "RANK": place.rank,
        "WORLD_SIZE": place.world_size,
        "GROUP_RANK": node,
        "LOCAL_RANK": nodes[: place.rank].count(node),
        "LOCAL_WORLD_SIZE": nodes.count(node),
    }
    previous = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: str(value) for name, value in variables.items()})
    try:
        yield
    finally:
        for name, value in previous.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def nodes(place: Place, *, gradients: Rows, nodes: Sequence[int]) -> Answers:
    """Averages where rank r's environment says that it is on node `nodes[r]`."""
    with _on_nodes(place, nodes):
        return mean(place, gradients=gradients)


def orders(place: Place, *, gradients: Rows) -> Answers:
    """Averages as the group's backend adds, and with every order of the ranks: (1 + W!, F)."""
    own = gradients[place.rank]
    means = []
    for order in (None, *itertools.permutations(range(place.world_size))):
        module = Line(len(own))
        ddp = parallel(place, module)
        if order is not None:
            ddp.register_comm_hook((place, order), _add_in_order)
        ddp(tensor(place, [own])).sum().backward()
        means.append(array(module.weight.grad))
    return {"gradients": np.stack(means)}


def _add_in_order(state, bucket):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Replaces the backend: gathers every rank's bucket, and adds them in the order of `state`."""
    place, order = state
    shares = everyone(place, bucket.buffer())
    total = shares[order[0]].copy()
    for rank in order[1:]:
        total += shares[rank]
    future: torch.futures.Future = torch.futures.Future()
    future.set_result(torch.from_numpy(total / len(order)).to(bucket.buffer().device))
    return future
