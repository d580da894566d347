"""The bridge to NumPy, which has no gradients and no transforms, but any strides."""

import os
from functools import cache
from typing import Any, NoReturn

import numpy as np

from conformance.core.dtypes import Dtype
from conformance.core.outcomes import NotExercised, Unsupported, WrongAnswer
from conformance.core.questions import Layout, Transform
from conformance.frameworks import KINDS, Description, Function, Refused
from conformance.frameworks.layouts import laid_out
from conformance.frameworks.state import Watch, seed


def prepare() -> None:
    """Sets nothing: BLAS reads its number of threads before the process starts."""


def describe() -> Description:
    """Returns NumPy's version, with the CPU as its only device."""
    missing = {kind: "numpy has the CPU alone" for kind in KINDS if kind != "cpu"}
    return Description({"numpy": np.__version__}, {"cpu": f"{os.cpu_count()} cores"}, {}, missing)


def array(values: np.ndarray, dtype: Dtype, layout: Layout, device: str) -> np.ndarray:
    """Copies the values into the layout."""
    if device != "cpu":
        raise Unsupported("numpy has the CPU alone")
    if dtype.jax is None:
        raise Unsupported(f"numpy has no {dtype.torch}")
    return laid_out(values, layout)


def values(array: Any, device: str) -> np.ndarray:
    """Copies the answer."""
    del device
    if not issubclass(type(array), np.ndarray):  # An object may say that it is of any class.
        raise WrongAnswer(f"gave {type(array).__name__}, not numpy.ndarray")
    return array.copy()


def transformed(function: Function, how: Transform, x: np.ndarray) -> Function:
    """Returns the function itself, or raises `Unsupported`."""
    del x
    if how in ("plain", "eager"):
        return function
    raise Unsupported(f"numpy has nothing by which a function could be {how}")


def scripted(function: Function) -> NoReturn:
    """Raises `Unsupported`."""
    del function
    raise Unsupported("numpy has nothing by which a function could be scripted")


def _no_derivatives(*_: Any) -> NoReturn:
    raise Unsupported("numpy has no derivatives")


vjp = jvp = double = _no_derivatives


def strides(array: np.ndarray) -> tuple[int, ...]:
    """Returns the strides in elements."""
    return tuple(step // array.itemsize for step in array.strides)


def shares_memory(first: np.ndarray, second: np.ndarray) -> bool:
    """Says exactly, element by element, whether the arrays overlap."""
    return np.shares_memory(first, second)


def graph_nodes(function: Function, x: np.ndarray, name: str) -> NoReturn:
    """Raises `Unsupported`."""
    raise Unsupported("numpy exports no graph")


def in_both_modes(function: Function, x: np.ndarray) -> NoReturn:
    """Raises `NotExercised`."""
    raise NotExercised("a numpy implementation calls no module")


def grouped_pointwise(x: np.ndarray, kernel: np.ndarray, groups: int) -> np.ndarray:
    """Convolves with einsum over the channels of each group."""
    samples, channels, *spatial = x.shape
    parts = x.reshape(samples, groups, channels // groups, *spatial)
    weights = kernel.reshape(groups, channels // groups, channels // groups)
    return np.einsum("ngi...,goi->ngo...", parts, weights).reshape(x.shape)


def moveaxis(x: np.ndarray, source: int, destination: int) -> np.ndarray:
    """Moves an axis, and makes the result contiguous."""
    return np.ascontiguousarray(np.moveaxis(x, source, destination))


def refusal(error: Exception) -> Refused | None:
    """Recognises the TypeError of a ufunc, which is how NumPy refuses a dtype."""
    return "dtype" if isinstance(error, TypeError) and "ufunc" in str(error) else None


def is_out_of_memory(error: Exception) -> bool:
    """Returns False: the host is the only device."""
    return False


def settle(device: str) -> None:
    """Does nothing: the host is the only device."""


def release(device: str) -> None:
    """Does nothing: NumPy caches no memory."""


reset = seed


@cache
def watch() -> Watch:
    """Returns the watch over this process."""
    return Watch(dict, ())
