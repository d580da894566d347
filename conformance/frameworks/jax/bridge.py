"""JAX: under `jax.jit` by default, as it is used; op by op where a case says eager."""

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


def prepare() -> None:
    """64-bit types on, matmul at full precision, and the host as eight devices."""
    jax_devices.prepare()


def describe() -> Description:
    """Versions, every device, the settings that decide precision, and what they come to."""
    devices = jax_devices.described()
    kept = {
        kind: precision.measured(partial(_matmul, kind))
        for kind in dict.fromkeys("cpu" if d.startswith("cpu") else d for d in devices)
    }
    return Description(
        {name: version(name) for name in ("jax", "jaxlib")},
        devices,
        {**jax_devices.precision(), **precision.words("jax", kept)},
        jax_devices.all_missing(),
        precision.told(kept),
    )


def _matmul(device: str, dtype: str) -> precision.Matmul:
    def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        x, y = (array(one, DTYPES[dtype], "contiguous", device) for one in (a, b))
        return values(jnp.matmul(x, y), device)

    return matmul


def array(values: np.ndarray, dtype: Dtype, layout: Layout, device: str) -> jax.Array:
    """An array with these bits on the device."""
    if dtype.jax is None:
        raise Unsupported(f"jax has no {dtype.torch}")
    if layout != "contiguous":
        raise Unsupported("jax arrays have no strides: there is no layout to ask about")
    return jax.device_put(np.array(values, order="C"), jax_devices.matching_devices(device)[0])


def values(array: Any, device: str) -> np.ndarray:
    """The array's bits in the carrier of its dtype."""
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        raise WrongAnswer(f"gave {type(array).__name__}, not a concrete jax.Array")
    wanted = jax_devices.matching_devices(device)[0]
    if array.devices() != {wanted}:
        raise WrongAnswer(f"gave an array on {array.devices()}, not on {wanted}")
    return np.asarray(array).copy()


def transformed(function: Function, how: Transform, x: jax.Array) -> Function:
    """Through jax.jit, jax.export or jax.vmap."""
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
    """Never."""
    raise Unsupported("TorchScript is torch's")


def vjp(function: Function, x: jax.Array, cotangent: jax.Array) -> tuple[Any, Any]:
    """By `jax.vjp`, compiled together with the function."""

    def both(x: jax.Array, cotangent: jax.Array) -> tuple[Any, Any]:
        y, pull = jax.vjp(function, x)
        return y, pull(cotangent)[0]

    y, pulled = jax.jit(both)(x, cotangent)
    return y, pulled


def jvp(function: Function, x: jax.Array, tangent: jax.Array) -> tuple[Any, Any]:
    """By `jax.jvp`, compiled together with the function."""
    y, pushed = jax.jit(lambda x, tangent: jax.jvp(function, (x,), (tangent,)))(x, tangent)
    return y, pushed


def double(
    function: Function, x: jax.Array, cotangent: jax.Array, second: jax.Array
) -> tuple[Any, ...]:
    """By `jax.vjp` of the function that `jax.vjp` gives."""

    def all_three(x: jax.Array, cotangent: jax.Array, second: jax.Array) -> tuple[Any, ...]:
        y, pull = jax.vjp(function, x)
        pulled, pull_again = jax.vjp(lambda c: pull(c)[0], cotangent)
        return y, pulled, pull_again(second)[0]

    answers: tuple[Any, ...] = jax.jit(all_three)(x, cotangent, second)
    return answers


def strides(array: jax.Array) -> NoReturn:
    """Never."""
    raise Unsupported("jax arrays have no strides")


def shares_memory(first: jax.Array, second: jax.Array) -> NoReturn:
    """Never: nobody can write to either."""
    raise NotExercised("jax arrays are immutable: sharing memory cannot be seen")


def graph_nodes(function: Function, x: jax.Array, name: str) -> NoReturn:
    """Never."""
    raise Unsupported("aten operators are torch's")


def in_both_modes(function: Function, x: jax.Array) -> NoReturn:
    """Never."""
    raise NotExercised("a jax function calls no torch.nn.Module")


def grouped_pointwise(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """By `lax.conv_general_dilated`."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", feature_group_count=groups, precision=jax.lax.Precision.HIGHEST
    )


def moveaxis(x: jax.Array, source: int, destination: int) -> jax.Array:
    """As `numpy.moveaxis`."""
    return jnp.moveaxis(x, source, destination)


def refusal(error: Exception) -> Refused | None:
    """By the words of primitives' dtype rules, and of custom derivatives."""
    words = str(error)
    if "does not accept dtype" in words or "UNIMPLEMENTED" in words:
        return "dtype"
    if isinstance(error, NotImplementedError) or "can't apply forward-mode" in words:
        return "transform"
    return None


def is_out_of_memory(error: Exception) -> bool:
    """By the status that XLA has for it."""
    return "RESOURCE_EXHAUSTED" in str(error)


def settle(device: str) -> None:
    """Else, on a machine with a GPU, what is asked of the CPU would run there where it can."""
    me = jax.process_index()
    first = next(one for one in jax_devices.matching_devices(device) if one.process_index == me)
    if first.platform != jax.default_backend():
        jax.config.update("jax_default_device", first)
    elif jax.config.jax_default_device is not None:
        jax.config.update("jax_default_device", None)


def release(device: str) -> None:
    """Nothing: JAX is told to preallocate nothing, and its process ends with its checks."""
