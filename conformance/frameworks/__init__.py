"""The bridges: to and from NumPy, gradients, transforms, devices and precision.

One module per framework, with the same functions under the same names (`Bridge`). An
implementation's author writes forward only; everything else that a case asks is derived here.
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

Function = Callable[..., Any]
# A dtype that it does not take, or a function that it cannot take a derivative of, map or compile.
Refused = Literal["dtype", "transform"]
# The kinds of devices that a framework can be asked about.
KINDS = ("cpu", "cuda", "tpu", "mps")


@dataclass(frozen=True)
class Description:
    """What a framework says of itself on this machine.

    Attributes:
        packages: versions by name.
        devices: every device by name, `cpu` or `cuda:0`, in words.
        precision: the settings in force, and what they were measured to come to.
        missing: for each kind of device that is not here, why.
        matmul_bits: by device and dtype, what products of matrices were measured to keep.
    """

    packages: Mapping[str, str]
    devices: Mapping[str, str]
    precision: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)
    matmul_bits: Mapping[str, Mapping[str, Bits]] = field(default_factory=dict)


class Bridge(Protocol):
    """What the suite needs of a framework. An array is the framework's own, unless it says NumPy.

    A function that the framework lacks raises `Unsupported`; one that would ask nothing raises
    `NotExercised`; an answer that is no array of this framework raises `WrongAnswer`.
    """

    def prepare(self) -> None:
        """Set threads, precision and 64-bit types, once, before any array is made."""

    def describe(self) -> Description:
        """Versions, devices and precision settings as they are in force."""

    def array(self, values: np.ndarray, dtype: Dtype, layout: Layout, device: str) -> Any:
        """The framework's array with these bits, lying in memory as the layout says."""

    def values(self, array: Any, device: str) -> np.ndarray:
        """The bits of an answer, in the NumPy carrier of its dtype."""

    def transformed(self, function: Function, how: Transform, x: Any) -> Function:
        """The function of one array, put through the framework's own machinery."""

    def scripted(self, function: Function) -> Function:
        """The function of (x, groups), compiled from its source."""

    def vjp(self, function: Function, x: Any, cotangent: Any) -> tuple[Any, Any]:
        """f(x) and the cotangent pulled back."""

    def jvp(self, function: Function, x: Any, tangent: Any) -> tuple[Any, Any]:
        """f(x) and the tangent pushed forward."""

    def double(self, function: Function, x: Any, cotangent: Any, second: Any) -> tuple[Any, ...]:
        """f(x), the cotangent pulled back, and `second` pulled back through that."""

    def strides(self, array: Any) -> tuple[int, ...]:
        """Strides in elements."""

    def shares_memory(self, first: Any, second: Any) -> bool:
        """Whether a write to one array could be seen in the other."""

    def graph_nodes(self, function: Function, x: Any, name: str) -> int:
        """How often the exported graph calls the operator of this name."""

    def in_both_modes(self, function: Function, x: Any) -> tuple[Any, Any, int]:
        """f(x) with its modules evaluating and training, and how many state entries they hold."""

    def grouped_pointwise(self, x: Any, kernel: Any, groups: int) -> Any:
        """A 1×1 convolution in groups: x (N, C, H, W), kernel (C, C/g, 1, 1)."""

    def moveaxis(self, x: Any, source: int, destination: int) -> Any:
        """As `numpy.moveaxis`."""

    def refusal(self, error: Exception) -> Refused | None:
        """What the framework itself refuses by this error; None where it refuses nothing."""

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether a device had too little memory."""

    def settle(self, device: str) -> None:
        """Have this process use the device where none is named, as far as it does not already."""

    def release(self, device: str) -> None:
        """Give back what memory of the device is kept for later, since others share it."""


def matching_devices(framework: str, device: str, of_kind: Callable[[str], list[Any]]) -> list[Any]:
    """Returns every device of a kind, or the one that is named with its index.

    Args:
        framework: whose devices they are.
        device: a kind, or one of it: `cuda`, `cuda:1`.
        of_kind: all devices of a kind, or Unsupported where there is none.

    Raises:
        Unsupported: if there is none; it says why.
    """
    kind, _, index = device.partition(":")
    here = of_kind(kind)
    if not index:
        return here
    if int(index) >= len(here):
        raise Unsupported(f"{framework} sees {len(here)} {kind} devices: there is no {device}")
    return [here[int(index)]]


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
    """Returns what the framework says of itself, in the process of a rank."""
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
