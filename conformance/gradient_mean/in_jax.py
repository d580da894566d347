"""Calling a JAX implementation of the gradient mean, and reading what it returns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.core.outcomes import Answer, Unsupported, WrongAnswer
from conformance.core.questions import GradientQuestion
from conformance.frameworks.jax import devices as jax_devices
from conformance.gradient_mean.jax_models import loss_of

# (inputs, targets, weights) in NumPy; targets of several heads are a tuple
Batch = tuple[Any, ...]


def one_process(
    function: Callable[..., Any],
    question: GradientQuestion,
    start: Mapping[str, np.ndarray],
    batches: Sequence[Batch],
    device: str,
    needed: int,
) -> Answer:
    """What the implementation returns, as its first device has it.

    Args:
        function: of (loss, params, batches, devices).
        question: what is asked.
        start: the parameters and buffers.
        batches: K of (inputs (W, n, …), targets (W, n, …), weights (W, n)).
        device: a kind, of which W devices are handed over, or as many as there are.
        needed: how many devices the function cannot do without.

    Raises:
        Unsupported: if there are fewer devices.
    """
    devices = jax_devices.first(device, question.world_size, needed)
    return _asked(function, question, start, batches, devices)


def virtual(
    function: Callable[..., Any],
    question: GradientQuestion,
    start: Mapping[str, np.ndarray],
    batches: Sequence[Batch],
    device: str,
) -> Answer:
    """As `one_process`, of W ranks on the first of its devices, which is handed over W times."""
    devices = jax_devices.those(device)[:1] * question.world_size
    return _asked(function, question, start, batches, devices)


def _asked(
    function: Callable[..., Any],
    question: GradientQuestion,
    start: Mapping[str, np.ndarray],
    batches: Sequence[Batch],
    devices: list[Any],
) -> Answer:
    params, buffers = _named(start, "parameter/"), _named(start, "buffer/")
    # Nothing is committed to a device: pmap and shard_map put arrays where they want them.
    here = next(one for one in devices if one.process_index == jax.process_index())
    with jax.default_device(here):
        given = function(
            loss_of(question, buffers),
            jax.tree.map(jnp.asarray, params),
            jax.tree.map(jnp.asarray, list(batches)),
            devices,
        )
        gradients = _gradients(given, params, devices)
        flaw = next(filter(None, (_unequal_copies(name, given[name]) for name in params)), "")
        if question.observe == "step":
            return Answer(
                {
                    f"parameter/{name}": _after_step(params[name], gradients[name])
                    for name in params
                },
                flaw,
            )
    return Answer({f"gradient/{name}": array for name, array in gradients.items()}, flaw)


def _named(start: Mapping[str, np.ndarray], head: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(head): array for name, array in start.items() if name.startswith(head)
    }


def _after_step(parameter: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """A step of SGD with rate 1/2, of copies: what was handed over may have been donated."""
    return np.asarray(jnp.asarray(parameter) - 0.5 * jnp.asarray(gradient))


def _gradients(
    given: Any, params: Mapping[str, np.ndarray], devices: Sequence[Any]
) -> dict[str, np.ndarray]:
    """What came back, once it is a tree like params of arrays like theirs."""
    if not isinstance(given, Mapping):
        raise WrongAnswer(f"gave {type(given).__name__}, not a dict of gradients like params")
    missing = next((name for name in params if name not in given), None)
    if missing is not None:
        raise WrongAnswer(f"gave no gradient of {missing}")
    extra = next((name for name in given if name not in params), None)
    if extra is not None:
        raise WrongAnswer(f"gave a gradient of {extra!r}, which is no parameter")
    return {name: _values(name, given[name], like, devices) for name, like in params.items()}


def _values(name: str, array: Any, like: np.ndarray, devices: Sequence[Any]) -> np.ndarray:
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        raise WrongAnswer(f"gradient {name} is {type(array).__name__}, not a concrete jax.Array")
    if array.shape != like.shape:
        per_rank = array.shape == (len(devices), *like.shape)
        raise WrongAnswer(
            f"gradient {name} has shape {array.shape}, expected {like.shape}"
            f"{': one per rank?' if per_rank else ''}"
        )
    if array.dtype != like.dtype:
        raise WrongAnswer(f"gradient {name} has dtype {array.dtype}, expected {like.dtype}")
    elsewhere = sorted(map(str, array.devices() - set(devices)))
    if elsewhere:
        raise WrongAnswer(f"gradient {name} is on {elsewhere[0]}, which it was not given")
    if not (array.is_fully_replicated and array.addressable_shards) and (
        not array.is_fully_addressable
    ):
        raise Unsupported(f"gradient {name} is not whole in process {jax.process_index()}")
    return np.array(array)


def _unequal_copies(name: str, array: jax.Array) -> str:
    """That its copies differ, where JAX believes that they are one value: nothing checks it."""
    if not array.is_fully_replicated:
        return ""
    first, *others = array.addressable_shards
    bits = np.asarray(first.data).tobytes()
    return next(
        (
            f"device {first.device.id} and device {other.device.id} hold different values of {name}"
            for other in others
            if np.asarray(other.data).tobytes() != bits
        ),
        "",
    )
