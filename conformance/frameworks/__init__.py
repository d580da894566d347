"""The bridges: to and from NumPy, gradients, transforms, devices and precision.

Each framework has a module, with the same functions under the same names (`Bridge`). An
implementation's author writes forward only; the bridges derive everything else that a case asks.
"""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np

from conformance.core.dtypes import Dtype
from conformance.core.formats import Bits
from conformance.core.outcomes import Unsupported
from conformance.core.questions import Layout, Transform
from conformance.frameworks.state import Watch

Function = Callable[..., Any]
# A framework refuses a dtype, or a function that it cannot differentiate, map or compile.
Refused = Literal["dtype", "transform"]
# The kinds of devices that a framework can be asked about.
KINDS = ("cpu", "cuda", "tpu", "mps")


@dataclass(frozen=True)
class Description:
    """The description that a framework gives of itself on this machine.

    Attributes:
        packages: versions by name.
        devices: a description of every device by name, `cpu` or `cuda:0`.
        precision: the settings in force, and the bits that were measured under them.
        missing: the reason for each kind of device that is missing.
        matmul_bits: by device and dtype, the bits that products of matrices were measured to keep.
    """

    packages: Mapping[str, str]
    devices: Mapping[str, str]
    precision: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)
    matmul_bits: Mapping[str, Mapping[str, Bits]] = field(default_factory=dict)


class Bridge(Protocol):
    """The functions that the suite needs of a framework.

    An array is the framework's own where its type is not NumPy's. A function that the framework
    lacks raises `Unsupported`; a function that would show nothing raises `NotExercised`; an answer
    that is no array of this framework raises `WrongAnswer`.
    """

    def prepare(self) -> None:
        """Sets threads, precision and 64-bit types, once, before any array is made."""

    def reset(self) -> None:
        """Sets what every check must find, whatever the last one did; in microseconds."""

    def watch(self) -> Watch:
        """Returns the watch over the state of this process, made at the first call."""

    def describe(self) -> Description:
        """Returns versions, devices and precision settings as they are in force."""

    def array(self, values: np.ndarray, dtype: Dtype, layout: Layout, device: str) -> Any:
        """Makes the framework's array with these bits, in the memory layout."""

    def values(self, array: Any, device: str) -> np.ndarray:
        """Returns the bits of an answer, in the NumPy carrier of its dtype."""

    def transformed(self, function: Function, how: Transform, x: Any) -> Function:
        """Puts the function of one array through the framework's own machinery."""

    def scripted(self, function: Function) -> Function:
        """Compiles the function of (x, groups) from its source."""

    def vjp(self, function: Function, x: Any, cotangent: Any) -> tuple[Any, Any]:
        """Returns f(x) and the cotangent pulled back."""

    def jvp(self, function: Function, x: Any, tangent: Any) -> tuple[Any, Any]:
        """Returns f(x) and the tangent pushed forward."""

    def double(self, function: Function, x: Any, cotangent: Any, second: Any) -> tuple[Any, ...]:
        """Returns f(x), the cotangent pulled back, and `second` pulled back through that."""

    def strides(self, array: Any) -> tuple[int, ...]:
        """Returns the strides in elements."""

    def shares_memory(self, first: Any, second: Any) -> bool:
        """Says whether a write to one array could be seen in the other."""

    def graph_nodes(self, function: Function, x: Any, name: str) -> int:
        """Counts the calls of the operator of this name in the exported graph."""

    def in_both_modes(self, function: Function, x: Any) -> tuple[Any, Any, int]:
        """Returns f(x) with modules in eval and in train mode, and how much state they hold."""

    def grouped_pointwise(self, x: Any, kernel: Any, groups: int) -> Any:
        """Convolves 1×1 in groups: x (N, C, H, W), kernel (C, C/g, 1, 1)."""

    def moveaxis(self, x: Any, source: int, destination: int) -> Any:
        """Moves an axis, as `numpy.moveaxis` does."""

    def refusal(self, error: Exception) -> Refused | None:
        """Returns what the framework itself refuses by this error, or None."""

    def is_out_of_memory(self, error: Exception) -> bool:
        """Says whether the error means that a device had too little memory."""

    def settle(self, device: str) -> None:
        """Makes the device the default of this process, as far as it is not already."""

    def release(self, device: str) -> None:
        """Frees the device's memory that the framework caches, since processes share it."""


def matching_devices(framework: str, device: str, of_kind: Callable[[str], list[Any]]) -> list[Any]:
    """Returns every device of a kind, or the device that is named with its index.

    Args:
        framework: the framework whose devices these are.
        device: a kind, or a device of that kind: `cuda`, `cuda:1`.
        of_kind: returns all devices of a kind, or raises Unsupported.

    Raises:
        Unsupported: if there is none; the message says why.
    """
    kind, _, index = device.partition(":")
    devices = of_kind(kind)
    if not index:
        return devices
    if int(index) >= len(devices):
        raise Unsupported(f"{framework} sees {len(devices)} {kind} devices: there is no {device}")
    return [devices[int(index)]]


@cache
def is_installed(framework: str) -> bool:
    """Says whether the framework can be found, without importing it."""
    return importlib.util.find_spec(framework) is not None


def bridge(framework: str) -> Bridge:
    """Imports a framework's module, and with it the framework.

    Args:
        framework: `torch`, `jax` or `numpy`.
    """
    match framework:
        case "torch":
            from conformance.frameworks.torch import bridge as torch_bridge

            return torch_bridge
        case "jax":
            from conformance.frameworks.jax import bridge as jax_bridge

            return jax_bridge
        case "numpy":
            from conformance.frameworks.numpy import bridge as numpy_bridge

            return numpy_bridge
        case _:
            raise LookupError(f"no bridge to {framework}")


def describe(framework: str, rank: object) -> Description:
    """Returns the description that the framework gives of itself, in the process of a rank."""
    del rank
    return bridge(framework).describe()


def prepare_torch() -> None:
    """Prepares a process for torch."""
    bridge("torch").prepare()


def prepare_jax() -> None:
    """Prepares a process for JAX."""
    bridge("jax").prepare()


def prepare_numpy() -> None:
    """Prepares a process for NumPy."""
    bridge("numpy").prepare()
