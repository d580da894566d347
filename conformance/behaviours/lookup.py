"""The modules of a probe and its model, by the probe's name in the goldens."""

import importlib
from collections.abc import Callable
from typing import Any, Literal

_ROOMS = ("data_parallel", "ddp", "jax")
# The sampler belongs to DistributedDataParallel, but its name in the goldens does not say so.
_ELSEWHERE = {"sampler": "ddp.sampler"}


def function_of(name: str, part: Literal["model", "probe"]) -> Callable[..., Any]:
    """Imports the model or the probe of a behaviour.

    Args:
        name: `document_subject.function`, as a `BehaviourQuestion` has it.
        part: the model, which imports no framework, or the probe, which does.

    >>> function_of("ddp_buffers.before_forward", "model").__module__
    'conformance.behaviours.ddp.buffers_model'
    """
    subject, _, function = name.partition(".")
    place = _ELSEWHERE.get(subject) or _placed(subject)
    joint = "_" if "." in place else "."
    module = importlib.import_module(f"{__package__}.{place}{joint}{part}")
    imported: Callable[..., Any] = getattr(module, function)
    return imported


def _placed(subject: str) -> str:
    for room in _ROOMS:
        if subject == room:
            return room
        if subject.startswith(f"{room}_"):
            return f"{room}.{subject.removeprefix(f'{room}_')}"
    raise LookupError(f"no room has probes of {subject}")
