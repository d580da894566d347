"""Calls a torch implementation of the gradient mean, and reads what it leaves in the model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from conformance.core.outcomes import Answer, NotExercised, Unsupported, WrongAnswer
from conformance.core.questions import GradientQuestion
from conformance.frameworks.torch import bridge as torch_bridge
from conformance.frameworks.torch import devices as torch_devices
from conformance.frameworks.torch.default_group import as_default
from conformance.gradient_mean.call import Batch, Call, last_window
from conformance.gradient_mean.models import Model, model_of
from conformance.gradient_mean.torch_models import Loss, build, tensor


def per_rank(call: Call) -> Answer:
    """Returns what a rank holds after the call.

    The function takes (model, loss, batches, group), where the group is the default one. Each rank
    has a device of its own where there are as many, else ranks share devices.
    """
    devices = torch_devices.matching_devices(call.device)
    own = devices[call.group.rank() % len(devices)]
    model = build(model_of(call.question), call.start, own)
    # Each rank has its own noise, as without any seed.
    torch.manual_seed(call.group.rank())
    with _replicas_watched(call.group.size(), own), as_default(call.group, call.changes):
        last_window(call, _tensors(call.batches, own), model, _loss(call.question), call.group)
    return _observed(model, call.question, own)


def one_process(call: Call) -> Answer:
    """Returns what the model holds after the call.

    The function takes (model, loss, batches, devices).

    Raises:
        Unsupported: if there is no such device, or `nn.DataParallel` got the same device twice.
        NotExercised: if `nn.DataParallel` passed a batch through to the model.
    """
    ranks = call.question.world_size
    available = torch_devices.matching_devices(call.device)
    devices = [available[rank % len(available)] for rank in range(ranks)]
    model = build(model_of(call.question), call.start, devices[0])
    torch.manual_seed(0)
    batches = _tensors(call.batches, devices[0])
    with _replicas_watched(ranks, devices[0]):
        # The list is the function's own: it may take devices out of it.
        call.function(model, _loss(call.question), batches, [*devices])
    return _observed(model, call.question, devices[0])


def virtual(call: Call) -> Answer:
    """Returns what the model holds after the call, of W ranks on the first device of its kind."""
    first = torch_devices.matching_devices(call.device)[0]
    model = build(model_of(call.question), call.start, first)
    devices = [first] * call.question.world_size
    call.function(model, _loss(call.question), _tensors(call.batches, first), devices)
    return _observed(model, call.question, first)


def _loss(question: GradientQuestion) -> Loss:
    return Loss(question.loss, question.reduction)


def _tensors(batches: Sequence[Batch], device: torch.device) -> list[Batch]:
    def moved(values: Any) -> Any:
        if isinstance(values, tuple):
            return tuple(moved(value) for value in values)
        return tensor(values, device)

    return [moved(batch) for batch in batches]


@contextmanager
def _replicas_watched(ranks: int, device: torch.device) -> Iterator[None]:
    """Declines where `nn.DataParallel` ran without being parallel, or on missing devices.

    Without an accelerator, and with one, it passes its input straight through (P1, P2): at W = 1
    that is right, at larger W nothing was parallel. With the same device several times it is
    stopped before it runs.
    """
    passed_through = False

    def note(module: nn.Module, _inputs: Any) -> None:
        nonlocal passed_through
        if not isinstance(module, nn.DataParallel):
            return
        distinct = len(set(module.device_ids))
        if distinct < len(module.device_ids):
            if distinct < 2:
                raise NotExercised("DataParallel has one device here: nothing would be parallel")
            raise Unsupported(
                f"DataParallel would need {len(module.device_ids)} devices, here are {distinct}"
            )
        passed_through = passed_through or distinct < 2
        if module.device_ids and module.src_device_obj.type != device.type:
            raise Unsupported(f"{type(module).__name__} has no replicas on {device.type}")

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield
    finally:
        hook.remove()
    if passed_through and ranks > 1:
        raise NotExercised("DataParallel passed the whole batch through to the model: no replicas")


def _observed(model: nn.Module, question: GradientQuestion, device: torch.device) -> Answer:
    plan = model_of(question)
    # Gradients are read first, so that an error in them is reported.
    gradients = _gradients(model, plan, device)
    match question.observe:
        case "gradients" | "noise" | "clipped":
            return Answer({f"gradient/{name}": array for name, array in gradients.items()})
        case "step":
            torch.optim.SGD(model.parameters(), lr=0.5).step()
            stepped = dict(model.named_parameters())
            return Answer(
                {
                    f"parameter/{name}": _values(f"parameter {name}", stepped[name], shape, device)
                    for name, shape in plan.parameters().items()
                }
            )


def _gradients(model: nn.Module, plan: Model, device: torch.device) -> dict[str, np.ndarray]:
    """Returns every parameter's gradient by name, and zeros where there is none."""
    parameters = dict(model.named_parameters())
    gradients = {}
    for name, shape in plan.parameters().items():
        parameter = parameters.get(name)
        values = _values(f"parameter {name}", parameter, shape, device)
        gradient = getattr(parameter, "grad", None)
        gradients[name] = (
            np.zeros_like(values)
            if gradient is None
            else _values(f"the gradient of {name}", gradient, shape, device)
        )
    return gradients


def _values(name: str, array: Any, shape: tuple[int, ...], device: torch.device) -> np.ndarray:
    if array is None:
        raise WrongAnswer(f"{name} is not in the model any more")
    if type(array) not in (torch.Tensor, nn.Parameter):
        raise WrongAnswer(f"{name} is a {type(array).__name__}: its whole is to be in the model")
    if array.device.type != device.type:
        raise WrongAnswer(f"{name} is on {array.device}, not on {device}")
    if tuple(array.shape) != shape:
        raise WrongAnswer(f"{name} has shape {tuple(array.shape)}, expected {shape}")
    return torch_bridge.values(array, str(device))
