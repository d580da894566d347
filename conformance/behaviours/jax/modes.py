"""One step on every shard, in JAX's three ways to run one, and what JAX says meanwhile."""

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
UNCHECKED: tuple[Mode, ...] = ("pmap", "unchecked")  # in which a gradient is the shard's own
AXIS = "shards"
Step = Callable[[Any, Any], Any]
Value = TypeVar("Value")


def devices_of(place: Place, count: int) -> list[Any]:
    """The first `count` devices of the platform that is asked.

    Raises:
        Unsupported: if there are fewer.
    """
    return jax_devices.first(place.device, count, count)


def each(
    step: Step, mode: Mode, devices: Sequence[Any], parameters: Any, shards: Any
) -> np.ndarray:
    """What `step(parameters, shard)` gives on each shard, stacked: (W, …).

    Args:
        step: what is run on every shard; collectives go over `AXIS`.
        mode: by pmap, or by shard_map with or without its check of what varies.
        devices: W of them.
        parameters: the same on every shard.
        shards: arrays of W along their first axis.
    """
    if mode == "pmap":
        run = jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), devices=devices)
    else:
        run = _shard_map(
            lambda parameters, mine: step(parameters, mine)[None], mode, devices, P(AXIS)
        )
    return np.asarray(run(parameters, shards))


def replicated(
    step: Step, mode: Mode, devices: Sequence[Any], parameters: Any, shards: Any
) -> np.ndarray:
    """As `each`; but declared to be the same on all shards, and returned once."""
    return np.asarray(replicated_step(step, mode, devices)(parameters, shards))


def replicated_step(step: Step, mode: Mode, devices: Sequence[Any]) -> Step:
    """What `replicated` calls."""
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
    """What a call gives, and the warnings about what it does: not that it is deprecated."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = call(*arguments)
    return value, [one for one in caught if not issubclass(one.category, DeprecationWarning)]


def categories(warned: Sequence[warnings.WarningMessage]) -> np.ndarray:
    """The types of what was heard; a text is never empty."""
    return text(" ".join(one.category.__name__ for one in warned) or "silence")


def refusal(
    kind: type[Exception], words: str, call: Callable[..., object], *arguments: Any
) -> tuple[np.ndarray, np.ndarray]:
    """How a call is refused: the error's type, and whether its message holds the words.

    Args:
        kind: the errors that count as that; others propagate.
        words: what is looked for in the message.
        call: what is to be refused.
        arguments: those of the call.
    """
    try:
        call(*arguments)
    except kind as error:
        return text(type(error).__name__), np.array(words in str(error))
    return text("nothing"), np.array(False)
