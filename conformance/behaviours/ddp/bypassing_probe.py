"""Probes calls by which DistributedDataParallel does or does not average."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch

from conformance.behaviours.ddp.parts_probe import (
    Choice,
    Line,
    Rows,
    everyone,
    parallel,
    refusal,
    tensor,
)
from conformance.behaviours.probe import Answers, Place
from conformance.core.dtypes import text


def no_sync(place: Place, *, gradients: Rows, inside: Sequence[str]) -> Answers:
    """Returns what each rank holds, (W, F), with no_sync around forward, backward or both."""
    own = gradients[place.rank]
    module = Line(len(own))
    ddp = parallel(place, module)
    with ddp.no_sync() if "forward" in inside else nullcontext():
        y = ddp(tensor(place, [own]))
    with ddp.no_sync() if "backward" in inside else nullcontext():
        y.sum().backward()
    return {"gradients": everyone(place, module.weight.grad)}


def micro_batches(place: Place, *, batches: Sequence[Sequence[Sequence[float]]]) -> Answers:
    """Accumulates K micro-batches, all but the last under no_sync(); rank r's are `batches[r]`.

    The loss is the mean over the samples of a micro-batch.
    """
    module = Line()
    ddp = parallel(place, module)
    *others, last = (tensor(place, batch).unsqueeze(-1) for batch in batches[place.rank])
    with ddp.no_sync():
        for x in others:
            ddp(x).mean().backward()
    ddp(last).mean().backward()
    return {"gradients": everyone(place, module.weight.grad)}


def past_the_wrapper(place: Place, *, gradients: Rows) -> Answers:
    """Runs a forward through `.module`; returns each rank's gradient, and a count of warnings."""
    own = gradients[place.rank]
    module = Line(len(own))
    ddp = parallel(place, module)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ddp.module(tensor(place, [own])).sum().backward()
    return {
        "gradients": everyone(place, module.weight.grad),
        "warnings": np.array(len(caught)),
    }


def autograd_grad(place: Place, *, gradients: Rows, after_backward: bool) -> Answers:
    """Returns what torch.autograd.grad returns, and `.grad` after it, of each rank."""
    x = tensor(place, [gradients[place.rank]])
    module = Line(x.shape[-1])
    ddp = parallel(place, module)
    if after_backward:
        ddp(x).sum().backward()
    (returned,) = torch.autograd.grad(ddp(x).sum(), module.weight)
    return {
        "returned": everyone(place, returned),
        "held": everyone(place, module.weight.grad),
    }


_UNFINISHED = "Expected to have finished reduction in the prior iteration"
_CHANGED = "training graph has changed in this iteration"


def unused(place: Place, *, gradients: Sequence[float]) -> Answers:
    """Takes a step in which the parameter b takes no part, and runs the next forward."""
    module = Choice("ab")
    ddp = parallel(place, module)
    x = tensor(place, [gradients[place.rank]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ddp(x, "a").sum().backward()
    return {
        "warnings": np.array(len(caught)),
        "used": everyone(place, module.a.grad),
        "unused": everyone(place, module.b.grad),
        **refusal(lambda: ddp(x, "ab"), RuntimeError, _UNFINISHED),
    }


def find_unused(
    place: Place, *, gradients: Sequence[float], user: int, old: float | None = None
) -> Answers:
    """Returns each rank's gradients: all ranks use a, only the rank `user` uses b, and none uses c.

    The `.grad` of c is `old` before.
    """
    module = Choice("abc")
    ddp = parallel(place, module, find_unused_parameters=True)
    if old is not None:
        module.c.grad = tensor(place, [old])
    x = tensor(place, [gradients[place.rank]])
    ddp(x, "ab" if place.rank == user else "a").sum().backward()
    return {name: everyone(place, getattr(module, name).grad) for name in "abc"}


def static_graph(
    place: Place, *, gradients: Sequence[float], steps: Sequence[str], stops: int
) -> Answers:
    """Takes steps that use these parameters of a and b, with static_graph=True.

    Every step until `stops` must end without an error; each rank's gradients are
    `step<k>/<name>`. Of step `stops` the answers say where it raised: in forward or backward.
    """
    module = Choice("ab")
    ddp = parallel(place, module, static_graph=True)
    x = tensor(place, [gradients[place.rank]])
    answers: dict[str, np.ndarray] = {}
    for step, used in enumerate(steps):
        ddp.zero_grad()
        if step == stops:
            return {**answers, **_stopped(ddp, x, used)}
        ddp(x, used).sum().backward()
        for name in "ab":
            answers[f"step{step}/{name}"] = everyone(place, getattr(module, name).grad)
    return answers


def _stopped(ddp: torch.nn.Module, x: torch.Tensor, used: str) -> Answers:
    """Returns where a step raised, and whether its message says why."""
    outputs: list[torch.Tensor] = []
    in_forward = refusal(lambda: outputs.append(ddp(x, used)), RuntimeError, _CHANGED)
    if not outputs:
        return {"where": text("forward"), **in_forward}
    in_backward = refusal(lambda: outputs[0].sum().backward(), RuntimeError, _CHANGED)
    return {"where": text("backward"), **in_backward}
