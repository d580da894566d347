"""A model of what `torch.nn.DataParallel` scatters and gathers.

A structure is a tensor, as its length, or an `object`, a `scalar` (0-d), `none`, or a container, as
the name of its type and its items. Tensor number k, from 0 and depth first, holds 100·k + 1, ….
"""

from collections.abc import Iterator
from itertools import count
from string import ascii_lowercase
from typing import TypeAlias

import numpy as np

from conformance.core.dtypes import text

Structure: TypeAlias = "int | str | tuple[Structure, ...]"
Answers = dict[str, np.ndarray]


def chunk_lengths(length: int, devices: int) -> list[int]:
    """Returns ⌈B/D⌉ for each chunk, and the rest for the last; an empty tensor is D empty chunks.

    >>> chunk_lengths(9, 4), chunk_lengths(5, 4), chunk_lengths(3, 8), chunk_lengths(0, 2)
    ([3, 3, 3], [2, 2, 1], [1, 1, 1], [0, 0])
    """
    if length == 0:
        return [0] * devices
    size = -(-length // devices)
    return [min(size, length - start) for start in range(0, length, size)]


def chunks(samples: np.ndarray, devices: int, dim: int = 0) -> list[np.ndarray]:
    """Splits the array into these chunks along `dim`."""
    ends = np.cumsum(chunk_lengths(samples.shape[dim], devices))[:-1]
    return np.split(samples, ends, axis=dim)


def counting(*shape: int) -> np.ndarray:
    """Returns 1, 2, 3, … in f32."""
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def pass_through(*, batch: int, asked: tuple[int, ...] | None, dim: int) -> Answers:
    """Calls the module itself with the input itself once, whatever devices are requested."""
    del asked, dim
    return {
        "device_ids": np.array([], dtype=np.int64),
        "calls": np.array(1),
        "module_itself": np.array([True]),
        "callers_thread": np.array([True]),
        "input_itself": np.array([True]),
        "output": np.full((batch, 2), 2, dtype=np.float32),
        "warnings": np.array(0),
    }


def one_device(*, batch: int, returns: str) -> Answers:
    """Calls the module itself once, and does not look at its output."""
    del returns
    return {
        "sizes": np.array([batch]),
        "module_itself": np.array([True]),
        "callers_thread": np.array([True]),
        "output_itself": np.array(True),
        "warnings": np.array(0),
    }


def chunk_sizes(*, batch: int, devices: int, dim: int = 0) -> Answers:
    """Splits every input in the same way along any dimension."""
    del dim
    sizes = np.array(chunk_lengths(batch, devices), dtype=np.int64)
    return {
        "sizes": sizes,
        "sizes_by_name": sizes,
        "replicas": np.array(len(sizes)),
        "idle": np.array(devices - len(sizes)),
    }


class _CannotSplitError(Exception):
    """A 0-d tensor is among the inputs."""


def _span(first: int, length: int) -> str:
    return f"{first}..{first + length - 1}" if length else "empty"


def _joined(name: str, parts: tuple[str, ...]) -> str:
    if name == "dict":
        parts = tuple(f"{key}: {part}" for key, part in zip(ascii_lowercase, parts, strict=False))
    return f"{name}({', '.join(parts)})" if parts else "itself"


def _pieces(structure: Structure, devices: int, leaf: Iterator[int]) -> list[str]:
    """Returns what each replica gets: a container has as many pieces as its shortest item."""
    match structure:
        case int(length):
            first = 100 * next(leaf) + 1
            sizes = chunk_lengths(length, devices)
            starts = [first, *(first + int(end) for end in np.cumsum(sizes)[:-1])]
            return [_span(*both) for both in zip(starts, sizes, strict=True)]
        case "scalar":
            raise _CannotSplitError
        case (str(name), first_item, *others):
            parts = [_pieces(item, devices, leaf) for item in (first_item, *others)]
            return [_joined(name, together) for together in zip(*parts, strict=False)]
    return ["itself"] * devices


def scattered(
    *,
    devices: int,
    positional: tuple[Structure, ...] = (),
    named: tuple[Structure, ...] = (),
) -> Answers:
    """Splits both kinds of arguments; missing pieces become nothing, or are an error."""
    leaf = count()
    try:
        arguments = _pieces(("tuple", *positional), devices, leaf) if positional else []
        keywords = _pieces(("dict", *named), devices, leaf) if named else []
    except _CannotSplitError:
        return {"raised": text("RuntimeError"), "says": np.array(True)}
    if len(arguments) < len(keywords):
        if positional:
            # The first replica without positional arguments cannot be called.
            return {
                "raised": text("TypeError"),
                "says": np.array(True),
                "in_replica": np.array(len(arguments)),
            }
        arguments = ["nothing"] * len(keywords)
    elif len(keywords) < len(positional):
        # torch compares with the number of positional arguments, not of their pieces.
        keywords += ["nothing"] * (len(arguments) - len(keywords))
    if len(arguments) != len(keywords):
        return {
            "raised": text("AssertionError"),
            "says": np.array(True),
            "counts": np.array([len(arguments), len(keywords)]),
        }
    return {
        "replicas": np.array(len(arguments)),
        "warnings": np.array(0),
        **{
            f"replica/{device}": text(f"{by_position} {by_name}")
            for device, (by_position, by_name) in enumerate(zip(arguments, keywords, strict=True))
        },
    }


def misplaced(*, devices: int, what: str) -> Answers:
    """Raises the same error at either forward, and none when the tensor is back."""
    del what
    answers = {
        f"{attempt}/{key}": np.array(True)
        for attempt in range(2)
        for key in ("says", "names_other")
    }
    for attempt in range(2):
        answers[f"{attempt}/raised"] = text("RuntimeError")
    return {**answers, "size_when_right": np.array(2 * devices)}


def concatenated(*, shape: tuple[int, ...], devices: int, dim: int) -> Answers:
    """Concatenates the chunks, each with its length added, in their order along `dim`."""
    parts = [part + part.shape[dim] for part in chunks(counting(*shape), devices, dim)]
    return {"output": np.concatenate(parts, axis=dim), "on_first": np.array(True)}


def returned(*, batch: int, devices: int, structure: Structure) -> Answers:
    """Returns the structure, with tensors as long as the batch."""
    leaf = count()

    def build(part: Structure) -> str:
        if isinstance(part, int):
            return _span(100 * next(leaf) + 1, batch)
        if isinstance(part, str):
            return "itself"
        return _joined(str(part[0]), tuple(build(item) for item in part[1:]))

    return {
        "output": text(build(structure)),
        "replicas": np.array(len(chunk_lengths(batch, devices))),
    }


def scalars(*, batch: int, devices: int, dim: int) -> Answers:
    """Sums each chunk; element r of the vector is pulled back to every sample of chunk r."""
    if dim:
        return {"raised": text("IndexError"), "says": np.array(True)}
    parts = chunks(counting(batch), devices)
    sums = np.array([part.sum() for part in parts], dtype=np.float32)
    gradient = [np.full_like(part, 1 + device) for device, part in enumerate(parts)]
    return {
        "output": sums,
        "gradient": np.concatenate(gradient),
        "warnings": np.array(1),
        "says": np.array(True),
    }
