"""How two models are compared, as a call says it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from conformance.compare.load_model import LAYOUTS
from conformance.core.outcomes import UsageError
from conformance.core.outside_files import read_bytes

Shape = tuple[int, ...]
_MOST = 2**26
# What NumPy raises of a file that is no array.
_DAMAGED = (ValueError, EOFError, TypeError, SyntaxError, OverflowError, MemoryError)


@dataclass(frozen=True)
class Settings:
    """How two models are compared.

    Attributes:
        inputs: by place or name a shape, channels at axis 1; or an array.
        modes: of training and evaluation those that are run; True is training.
        seed: of inputs and weights.
        layouts: `channels_first` or `channels_last` for each side; None: as its framework has it.
        allowed: names of causes that are told and do not count.
    """

    inputs: Mapping[int | str, Shape | np.ndarray]
    modes: tuple[bool, ...] = (True, False)
    seed: int = 0
    layouts: tuple[str | None, str | None] = (None, None)
    allowed: frozenset[str] = frozenset()


def read_inputs(said: Sequence[str]) -> dict[int | str, Shape | np.ndarray]:
    """`4,6,12,12` or FILE.npy, each perhaps with NAME= before it.

    >>> read_inputs(["4,6", "mask=4"])
    {0: (4, 6), 'mask': (4,)}
    """
    read: dict[int | str, Shape | np.ndarray] = {}
    for text in said:
        name, _, rest = text.rpartition("=")
        read[name or len([k for k in read if isinstance(k, int)])] = _read_input(rest)
    return read


def _read_input(said: str) -> Shape | np.ndarray:
    if said.endswith(".npy"):
        raw = read_bytes(Path(said), f"--input {said}")
        try:
            return np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
        except _DAMAGED as error:
            raise UsageError(f"--input {said}: is no array of NumPy: {error}") from error
    try:
        shape = tuple(int(part) for part in said.replace("x", ",").split(","))
    except ValueError as error:
        raise UsageError(f"--input {said!r}: write a shape, 4,6,12,12, or FILE.npy") from error
    if min(shape) < 1:
        raise UsageError(f"--input {said!r}: every axis has at least one element")
    if prod(shape) > _MOST:
        raise UsageError(f"--input {said!r}: more than {_MOST} elements")
    return shape


def read_layouts(said: str | None) -> tuple[str | None, str | None]:
    """`channels_first,channels_last`, the first model's and the second's."""
    if said is None:
        return None, None
    parts = said.split(",")
    if len(parts) != 2 or any(part not in LAYOUTS for part in parts):
        raise UsageError(f"--layout {said!r}: write two of {' and '.join(LAYOUTS)} with a comma")
    return parts[0], parts[1]
