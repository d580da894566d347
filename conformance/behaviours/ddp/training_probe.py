"""Probes training: join(), and averaging models in the place of gradients."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist

from conformance.behaviours.ddp.parts_probe import Line, Rows, array, objects, parallel, tensor
from conformance.behaviours.probe import Answers, Place


def join(place: Place, *, inputs: Rows, by_initial: bool = True) -> Answers:
    """Returns the gradient of each step and rank, (K, W), NaN where a rank had no more inputs.

    Rank r has the inputs `inputs[r]`, one a step.
    """
    module = Line()
    ddp = parallel(place, module)
    own_gradients = []
    with ddp.join(divide_by_initial_world_size=by_initial):
        for x in inputs[place.rank]:
            ddp.zero_grad()
            ddp(tensor(place, [[x]])).sum().backward()
            own_gradients.append(array(module.weight.grad)[0])
    steps = max(map(len, inputs))
    gradients = np.full((steps, place.world_size), np.nan, np.float32)
    for rank, numbers in enumerate(objects(place, own_gradients)):
        gradients[: len(numbers), rank] = numbers
    return {"gradients": gradients}


Optimizer = Callable[[Sequence[torch.nn.Parameter]], torch.optim.Optimizer]
_OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.5, momentum=0.5),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.5),
}
# The least difference that must show is 100 times as large.
NEAR = 1e-3


def models_or_gradients(
    place: Place,
    *,
    gradients: Rows,
    steps: int,
    optimizer: str = "sgd",
    restart: bool = False,
    clip: float | None = None,
    exact: bool = False,
) -> Answers:
    """Trains with DDP, and by averaging the models after each step; says whether both end near.

    Args:
        place: the place where the probe runs.
        gradients: rank r's own gradient, (F,), in every step.
        steps: how many steps.
        optimizer: sgd, momentum or adam.
        restart: whether the optimizer begins anew after each averaging of models.
        clip: the norm to clip to, before the step.
        exact: whether to return the parameters themselves, for data where nothing rounds.
    """
    x = tensor(place, [gradients[place.rank]])
    make = _OPTIMIZERS[optimizer]

    def step(model: torch.nn.Module, updates: torch.optim.Optimizer) -> None:
        updates.zero_grad()
        model(x).sum().backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(list(model.parameters()), clip)
        updates.step()

    by_gradients, by_models = (Line(x.shape[-1]).to(place.device) for _ in range(2))
    ddp = parallel(place, by_gradients)
    updates = make(list(ddp.parameters()))
    for _ in range(steps):
        step(ddp, updates)
    updates = make(list(by_models.parameters()))
    for _ in range(steps):
        step(by_models, updates)
        with torch.no_grad():
            dist.all_reduce(by_models.weight.data, group=place.group)
            by_models.weight /= place.world_size
        if restart:
            updates = make(list(by_models.parameters()))
    apart = (by_gradients.weight - by_models.weight).abs().max().item()
    answers = {"near": np.array(apart <= NEAR)}
    if exact:
        answers["by_gradients"] = array(by_gradients.weight)
        answers["by_models"] = array(by_models.weight)
    return answers
