"""Exact comparison: named arrays, bit for bit, and the difference in words."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from conformance.core.dtypes import bits_of

Arrays: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """The first difference between an answer and the right one.

    Attributes:
        name: the name of the array.
        words: what is wrong with it, in one sentence.
        wrong: how many of its elements are wrong; 0 where the whole array is wrong (missing,
            another dtype or shape).
        index: the index of the element that is shown.
        expected: that element of the right answer, as `shown` writes it.
        got: that element of the answer.
    """

    name: str
    words: str
    wrong: int = 0
    index: tuple[int, ...] = ()
    expected: str = ""
    got: str = ""

    def as_object(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return {**vars(self), "index": list(self.index)}


def wrong_elements(wrong: int, size: int) -> str:
    """Counts the wrong elements of an array in words.

    >>> wrong_elements(1, 1), wrong_elements(2, 12)
    ('1 of 1 element is', '2 of 12 elements are')
    """
    return f"{wrong} of {size} element{'s' * (size != 1)} {'are' if wrong > 1 else 'is'}"


def difference(answer: Arrays, expected: Arrays) -> Difference | None:
    """Returns the first difference between an answer and the right one, None if bits are equal.

    >>> right = {"output": np.array([1.0, 2.0], dtype=np.float32)}
    >>> difference({"output": np.array([1.0, 3.0], dtype=np.float32)}, right).words
    'output: 1 of 2 elements is wrong, at [1]: expected 2.0 (0x40000000), given 3.0 (0x40400000)'
    """
    for name, right in expected.items():
        if name not in answer:
            return Difference(name, f"{name}: missing")
        flaw = _array_difference(name, answer[name], right)
        if flaw is not None:
            return flaw
    extra = next((name for name in answer if name not in expected), None)
    return None if extra is None else Difference(extra, f"{extra}: not asked for")


def form_difference(name: str, answer: np.ndarray, right: np.ndarray) -> Difference | None:
    """Returns what is wrong with an array's dtype or shape, or None."""
    if answer.dtype != right.dtype:
        return Difference(name, f"{name}: expected dtype {right.dtype}, given {answer.dtype}")
    if answer.shape != right.shape:
        return Difference(
            name, f"{name}: expected shape {list(right.shape)}, given {list(answer.shape)}"
        )
    return None


def _array_difference(name: str, answer: np.ndarray, right: np.ndarray) -> Difference | None:
    flaw = form_difference(name, answer, right)
    if flaw is not None:
        return flaw
    answer_bits, right_bits = bits_of(answer), bits_of(right)
    if np.array_equal(answer_bits, right_bits):
        return None
    unequal = answer_bits != right_bits
    if unequal.ndim > right.ndim:
        # An element of complex128 is two words.
        unequal = unequal.any(axis=-1)
    wrong = int(unequal.sum())
    first = tuple(int(i) for i in np.unravel_index(int(unequal.argmax()), right.shape))
    place = f"{'first ' if wrong > 1 else ''}at {list(first)}: " if first else ""
    expected, got = shown(right, first), shown(answer, first)
    words = (
        f"{name}: {wrong_elements(wrong, right.size)} wrong, {place}"
        f"expected {expected}, given {got}"
    )
    return Difference(name, words, wrong, first, expected, got)


def shown(array: np.ndarray, index: tuple[int, ...]) -> str:
    """Writes one element in decimal and, where it is a number, in hexadecimal bits.

    >>> shown(np.array([-0.0]), (0,))
    '-0.0 (0x8000000000000000)'
    """
    element = array[index]
    if array.dtype.kind == "b":
        return str(bool(element))
    # Memory is little-endian; hexadecimal digits are written from the largest.
    raw = np.asarray(element).reshape(1).view(np.uint8)[::-1]
    half = raw.size // 2
    parts = [raw[half:], raw[:half]] if array.dtype.kind == "c" else [raw]
    # A signalling NaN is converted to be printed, which raises a flag.
    with np.errstate(invalid="ignore"):
        decimal = str(element)
    return f"{decimal} ({' '.join('0x' + part.tobytes().hex() for part in parts)})"


def sha256_of_answer(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns SHA-256 over name, dtype, shape and bytes of every array, by name.

    Two answers have the same hash just where they are the same bits under the same names.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}/{array.dtype}/{list(arrays[name].shape)}/".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
