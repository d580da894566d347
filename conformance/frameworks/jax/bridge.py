"""The bridge to JAX: under `jax.jit` by default, op by op where a case says eager."""

from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from conformance.core.dtypes import DTYPES, Dtype
from conformance.core.outcomes import NotExercised, Unsupported, WrongAnswer
from conformance.core.questions import Layout, Transform
from conformance.frameworks import Description, Function, Refused, precision
from conformance.frameworks.jax import devices as jax_devices
from conformance.frameworks.jax import state


def prepare() -> None:
    """Turns 64-bit types on, sets matmul to full precision, and makes the host eight devices."""
    jax_devices.prepare()


def describe() -> Description:
    """Returns versions, every device, the precision settings, and the bits measured under them."""
    devices = jax_devices.described()
    measurements = {
        kind: precision.measured(partial(_matmul, kind))
        for kind in dict.fromkeys("cpu" if d.startswith("cpu") else d for d in devices)
    }
    return Description(
        {name: version(name) for name in ("jax", "jaxlib")},
        devices,
        {**jax_devices.precision(), **precision.words("jax", measurements)},
        jax_devices.all_missing(),
        precision.only_measured(measurements),
    )


def _matmul(device: str, dtype: str) -> precision.Matmul:
    def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        x, y = (array(operand, DTYPES[dtype], "contiguous", device) for operand in (a, b))
        return values(jnp.matmul(x, y), device)

    return matmul


def array(values: np.ndarray, dtype: Dtype, layout: Layout, device: str) -> jax.Array:
    """Makes an array with these bits on the device."""
    if dtype.jax is None:
        raise Unsupported(f"jax has no {dtype.torch}")
    if layout != "contiguous":
        raise Unsupported("jax arrays have no strides: there is no layout to ask about")
    return jax.device_put(np.array(values, order="C"), jax_devices.matching_devices(device)[0])


def values(array: Any, device: str) -> np.ndarray:
    """Returns the array's bits in the carrier of its dtype."""
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        raise WrongAnswer(f"gave {type(array).__name__}, not a concrete jax.Array")
    expected = jax_devices.matching_devices(device)[0]
    if array.devices() != {expected}:
        raise WrongAnswer(f"gave an array on {array.devices()}, not on {expected}")
    return np.asarray(array).copy()


def transformed(function: Function, how: Transform, x: jax.Array) -> Function:
    """Puts the function through jax.jit, jax.export or jax.vmap."""
    match how:
        case "eager":
            return function
        case "exported":
            shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
            call: Function = jax.export.export(jax.jit(function))(shape).call
            return call
        case "vmapped":
            mapped: Function = jax.jit(jax.vmap(function))
            return mapped
        case "scripted":
            raise Unsupported("TorchScript is torch's")
        case _:
            compiled: Function = jax.jit(function)
            return compiled


def scripted(function: Function) -> NoReturn:
    """Raises `Unsupported`."""
    raise Unsupported("TorchScript is torch's")


def vjp(function: Function, x: jax.Array, cotangent: jax.Array) -> tuple[Any, Any]:
    """Calls `jax.vjp`, compiled together with the function."""

    def both(x: jax.Array, cotangent: jax.Array) -> tuple[Any, Any]:
        y, pull = jax.vjp(function, x)
        return y, pull(cotangent)[0]

    y, pulled = jax.jit(both)(x, cotangent)
    return y, pulled


def jvp(function: Function, x: jax.Array, tangent: jax.Array) -> tuple[Any, Any]:
    """Calls `jax.jvp`, compiled together with the function."""
    y, pushed = jax.jit(lambda x, tangent: jax.jvp(function, (x,), (tangent,)))(x, tangent)
    return y, pushed


def double(
    function: Function, x: jax.Array, cotangent: jax.Array, second: jax.Array
) -> tuple[Any, ...]:
    """Calls `jax.vjp` of the function that `jax.vjp` gives."""

    def all_three(x: jax.Array, cotangent: jax.Array, second: jax.Array) -> tuple[Any, ...]:
        y, pull = jax.vjp(function, x)
        pulled, pull_again = jax.vjp(lambda c: pull(c)[0], cotangent)
        return y, pulled, pull_again(second)[0]

    answers: tuple[Any, ...] = jax.jit(all_three)(x, cotangent, second)
    return answers


def strides(array: jax.Array) -> NoReturn:
    """Raises `Unsupported`."""
    raise Unsupported("jax arrays have no strides")


def shares_memory(first: jax.Array, second: jax.Array) -> NoReturn:
    """Raises `NotExercised`: JAX arrays cannot be written to."""
    raise NotExercised("jax arrays are immutable: sharing memory cannot be seen")


def graph_nodes(function: Function, x: jax.Array, name: str) -> NoReturn:
    """Raises `Unsupported`."""
    raise Unsupported("aten operators are torch's")


def in_both_modes(function: Function, x: jax.Array) -> NoReturn:
    """Raises `NotExercised`."""
    raise NotExercised("a jax function calls no torch.nn.Module")


def grouped_pointwise(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """Convolves with `lax.conv_general_dilated`."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", feature_group_count=groups, precision=jax.lax.Precision.HIGHEST
    )


def moveaxis(x: jax.Array, source: int, destination: int) -> jax.Array:
    """Moves an axis, as `numpy.moveaxis` does."""
    return jnp.moveaxis(x, source, destination)


def refusal(error: Exception) -> Refused | None:
    """Recognises the messages of primitives' dtype rules, and of custom derivatives."""
    words = str(error)
    if "does not accept dtype" in words or "UNIMPLEMENTED" in words:
        return "dtype"
    if isinstance(error, NotImplementedError) or "can't apply forward-mode" in words:
        return "transform"
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Recognises the status that XLA has for it."""
    return "RESOURCE_EXHAUSTED" in str(error)


def settle(device: str) -> None:
    """Makes the device JAX's default: with a GPU, a question to the CPU would run on the GPU."""
    process = jax.process_index()
    first = next(
        candidate
        for candidate in jax_devices.matching_devices(device)
        if candidate.process_index == process
    )
    if first.platform != jax.default_backend():
        jax.config.update("jax_default_device", first)
    elif jax.config.jax_default_device is not None:
        jax.config.update("jax_default_device", None)


def release(device: str) -> None:
    """Does nothing: JAX preallocates nothing here, and its process ends with its checks."""


reset, watch = state.reset, state.watch
