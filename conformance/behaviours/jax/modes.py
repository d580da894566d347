"""Runs a step on every shard, in JAX's three ways, and records JAX's warnings."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from conformance.behaviours.probe import Place
from conformance.core.dtypes import text
from conformance.frameworks.jax import devices as jax_devices

Mode = Literal["pmap", "checked", "unchecked"]
MODES: tuple[Mode, ...] = ("pmap", "checked", "unchecked")
# In these modes a gradient is the shard's own.
UNCHECKED: tuple[Mode, ...] = ("pmap", "unchecked")
AXIS = "shards"
Step = Callable[[Any, Any], Any]
Value = TypeVar("Value")


def devices_of(place: Place, count: int) -> list[Any]:
    """Returns the first `count` devices of the check's platform.

    Raises:
        Unsupported: if there are fewer.
    """
    return jax_devices.first(place.device, count, count)


def each(
    step: Step, mode: Mode, devices: Sequence[Any], parameters: Any, shards: Any
) -> np.ndarray:
    """Returns `step(parameters, shard)` of each shard, stacked: (W, …).

    Args:
        step: the function to run on every shard; its collectives go over `AXIS`.
        mode: pmap, or shard_map with or without its check of what varies.
        devices: W devices.
        parameters: the parameters, the same on every shard.
        shards: arrays with W along their first axis.
    """
    if mode == "pmap":
        run = jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), devices=devices)
    else:
        run = _shard_map(
            lambda parameters, shard: step(parameters, shard)[None], mode, devices, P(AXIS)
        )
    return np.asarray(run(parameters, shards))


def replicated(
    step: Step, mode: Mode, devices: Sequence[Any], parameters: Any, shards: Any
) -> np.ndarray:
    """Runs a step as `each` does, but declares its value to be equal on all shards."""
    return np.asarray(replicated_step(step, mode, devices)(parameters, shards))


def replicated_step(step: Step, mode: Mode, devices: Sequence[Any]) -> Step:
    """Returns the function that `replicated` calls."""
    if mode == "pmap":
        mapped: Step = jax.pmap(
            step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, devices=devices
        )
        return mapped
    return _shard_map(step, mode, devices, P())


def _shard_map(step: Step, mode: Mode, devices: Sequence[Any], out_specs: Any) -> Step:
    def run(parameters: Any, shards: Any) -> Any:
        return step(parameters, jax.tree.map(lambda x: x[0], shards))

    mapped: Step = jax.jit(
        jax.shard_map(
            run,
            mesh=Mesh(devices, (AXIS,)),
            in_specs=(P(), P(AXIS)),
            out_specs=out_specs,
            check_vma=mode == "checked",
        )
    )
    return mapped


def heard(
    call: Callable[..., Value], *arguments: Any
) -> tuple[Value, list[warnings.WarningMessage]]:
    """Returns the value of a call, and its warnings, except for deprecations."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call(*arguments)
    return value, [
        warning for warning in caught if not issubclass(warning.category, DeprecationWarning)
    ]


def categories(warned: Sequence[warnings.WarningMessage]) -> np.ndarray:
    """Returns the types of warnings in a text, which is never empty."""
    return text(" ".join(warning.category.__name__ for warning in warned) or "silence")


def refusal(
    kind: type[Exception], words: str, call: Callable[..., object], *arguments: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how a call is refused: the error's type, and whether its message has the words.

    Args:
        kind: the errors that count as a refusal; other errors propagate.
        words: the words to find in the message.
        call: the call that must be refused.
        arguments: the arguments of the call.
    """
    try:
        call(*arguments)
    except kind as error:
        return text(type(error).__name__), np.array(words in str(error))
    return text("nothing"), np.array(False)
