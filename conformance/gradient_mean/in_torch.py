"""Calling a torch implementation of the gradient mean, and reading what it leaves in the model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from conformance.core.outcomes import Answer, NotExercised, Unsupported, WrongAnswer
from conformance.core.questions import GradientQuestion
from conformance.frameworks.torch import bridge as torch_bridge
from conformance.frameworks.torch import devices as torch_devices
from conformance.gradient_mean.models import Model, model_of
from conformance.gradient_mean.torch_models import Loss, build, tensor

Batch = tuple[Any, ...]  # (inputs, targets) in NumPy; targets of several heads are a tuple


def per_rank(
    function: Callable[..., Any],
    question: GradientQuestion,
    start: Mapping[str, np.ndarray],
    batches: Sequence[Batch],
    device: str,
    group: Any,
) -> Answer:
    """What one of the ranks holds afterwards.

    Args:
        function: of (model, loss, batches, group).
        question: what is asked.
        start: this rank's own parameters and buffers.
        batches: this rank's own samples.
        device: a type; ranks share out its devices, and share one where there are fewer.
        group: the process group.
    """
    devices = torch_devices.those(device)
    mine = devices[group.rank() % len(devices)]
    model = build(model_of(question), start, mine)
    torch.manual_seed(group.rank())  # as processes are that nobody seeded: each its own noise
    with _replicas_watched(group.size(), mine):
        function(model, _loss(question), _tensors(batches, mine), group)
    return _observed(model, question, mine)


def one_process(
    function: Callable[..., Any],
    question: GradientQuestion,
    start: Mapping[str, np.ndarray],
    batches: Sequence[Batch],
    device: str,
) -> Answer:
    """What the model holds afterwards.

    Args:
        function: of (model, loss, batches, devices).
        question: what is asked.
        start: the parameters and buffers.
        batches: all samples.
        device: a kind, or one device; where there are fewer than W, each is several of the W.

    Raises:
        Unsupported: if there is no such device, or `nn.DataParallel` was given one twice.
        NotExercised: if `nn.DataParallel` passed a batch through to the model.
    """
    ranks = question.world_size
    here = torch_devices.those(device)
    devices = [here[rank % len(here)] for rank in range(ranks)]
    model = build(model_of(question), start, devices[0])
    torch.manual_seed(0)
    with _replicas_watched(ranks, devices[0]):
        function(model, _loss(question), _tensors(batches, devices[0]), devices)
    return _observed(model, question, devices[0])


def virtual(
    function: Callable[..., Any],
    question: GradientQuestion,
    start: Mapping[str, np.ndarray],
    batches: Sequence[Batch],
    device: str,
) -> Answer:
    """As `one_process`, of W ranks on the first of its devices, which is handed over W times."""
    here = torch_devices.those(device)[0]
    model = build(model_of(question), start, here)
    function(model, _loss(question), _tensors(batches, here), [here] * question.world_size)
    return _observed(model, question, here)


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
    """Decline where `nn.DataParallel` ran, and what it did was not parallel, or not meant for here.

    Without an accelerator, and with one, it passes its input straight through (P1, P2): at one
    rank that is all there is to do, at several nothing was shared out. Given one device several
    times over it is stopped before it runs.
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
    gradients = _gradients(model, plan, device)  # first: whatever is wrong with them is said
    match question.observe:
        case "gradients" | "noise":
            return Answer({f"gradient/{name}": array for name, array in gradients.items()})
        case "step":
            torch.optim.SGD(model.parameters(), lr=0.5).step()
            left = dict(model.named_parameters())
            return Answer(
                {
                    f"parameter/{name}": _values(f"parameter {name}", left[name], shape, device)
                    for name, shape in plan.parameters().items()
                }
            )


def _gradients(model: nn.Module, plan: Model, device: torch.device) -> dict[str, np.ndarray]:
    """Every parameter's gradient by name; where there is none it is zero."""
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


def _values(what: str, given: Any, shape: tuple[int, ...], device: torch.device) -> np.ndarray:
    if given is None:
        raise WrongAnswer(f"{what} is not in the model any more")
    if type(given) not in (torch.Tensor, nn.Parameter):
        raise WrongAnswer(f"{what} is a {type(given).__name__}: its whole is to be in the model")
    if given.device.type != device.type:
        raise WrongAnswer(f"{what} is on {given.device}, not on {device}")
    if tuple(given.shape) != shape:
        raise WrongAnswer(f"{what} has shape {tuple(given.shape)}, expected {shape}")
    return torch_bridge.values(given, str(device))
