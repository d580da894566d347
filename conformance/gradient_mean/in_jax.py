"""Calls a JAX implementation of the gradient mean, and reads what it returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.core.outcomes import Answer, Unsupported, WrongAnswer
from conformance.frameworks.jax import devices as jax_devices
from conformance.gradient_mean.call import Call, last_window
from conformance.gradient_mean.jax_models import loss_of


def per_rank(call: Call) -> Answer:
    """Declines: a JAX implementation runs in one process, for all of its devices."""
    del call
    raise Unsupported("a JAX implementation runs in one process, for all of its devices")


def one_process(call: Call) -> Answer:
    """Returns the implementation's gradients, as its first device has them.

    The function takes (loss, params, batches, devices).

    Raises:
        Unsupported: if there are fewer devices than it needs.
    """
    return _called(
        call, jax_devices.first(call.device, call.question.world_size, call.devices_needed)
    )


def virtual(call: Call) -> Answer:
    """Returns the implementation's gradients for W ranks on the first device of its kind."""
    return _called(call, jax_devices.matching_devices(call.device)[:1] * call.question.world_size)


def _called(call: Call, devices: list[Any]) -> Answer:
    params, buffers = _named(call.start, "parameter/"), _named(call.start, "buffer/")
    own = next(device for device in devices if device.process_index == jax.process_index())
    # No array is committed to a device: pmap and shard_map place arrays themselves.
    with jax.default_device(own):
        returned = last_window(
            call,
            jax.tree.map(jnp.asarray, list(call.batches)),
            loss_of(call.question, buffers),
            jax.tree.map(jnp.asarray, params),
            [*devices],  # The list is the function's own: it may take devices out of it.
        )
        gradients = _gradients(returned, params, devices)
        flaw = next(filter(None, (_unequal_copies(name, returned[name]) for name in params)), "")
        if call.question.observe == "step":
            stepped = {
                f"parameter/{name}": _after_step(params[name], gradients[name]) for name in params
            }
            return Answer(stepped, flaw)
    return Answer({f"gradient/{name}": array for name, array in gradients.items()}, flaw)


def _named(start: Mapping[str, np.ndarray], head: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(head): array for name, array in start.items() if name.startswith(head)
    }


def _after_step(parameter: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Takes a step of SGD with rate 1/2; in NumPy, as XLA would compile two programs a shape."""
    return np.asarray(parameter - gradient * parameter.dtype.type(0.5))


def _gradients(
    returned: Any, params: Mapping[str, np.ndarray], devices: Sequence[Any]
) -> dict[str, np.ndarray]:
    """Returns the gradients, once they are a tree like params, of arrays like those of params."""
    if not isinstance(returned, Mapping):
        raise WrongAnswer(f"gave {type(returned).__name__}, not a dict of gradients like params")
    missing = next((name for name in params if name not in returned), None)
    if missing is not None:
        raise WrongAnswer(f"gave no gradient of {missing}")
    extra = next((name for name in returned if name not in params), None)
    if extra is not None:
        raise WrongAnswer(f"gave a gradient of {extra!r}, which is no parameter")
    return {name: _values(name, returned[name], like, devices) for name, like in params.items()}


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
    """Compares the copies that JAX takes for one value, which JAX itself never checks."""
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
