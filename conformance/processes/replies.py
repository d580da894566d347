"""Calls a task's function, and makes whatever happens a reply that can be sent.

A reply is plain data, never a pickle: what it is made of is decided by whoever reads it. It is a
header in JSON, then the bytes of the arrays that the header lists with their dtype and shape.
"""

import importlib
import json
import math
import operator
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import ml_dtypes
import numpy as np

from conformance.core.outcomes import (
    Answer,
    Declined,
    NotExercised,
    Raised,
    Unsupported,
    WrongAnswer,
)
from conformance.processes import stack_frames

MOST_TEXT = 100_000  # characters of one text: longer ones are cut
HEADER_LIMIT = 1 << 22
_HEADER_LENGTH = struct.Struct("!Q")
_OUTCOMES = (Answer, Raised, Declined)
# Byte orders other than this machine's are allowed, so that they are told as a wrong dtype.
_DTYPES = {
    dtype.str: dtype
    for code in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16")
    for dtype in (np.dtype(code), np.dtype(code).newbyteorder())
} | {
    np.dtype(kind).name: np.dtype(kind)
    for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class Reply:
    """What a rank sends when a task has ended.

    Attributes:
        value: what the function returned, or an outcome that says how it failed.
        sync_state: what must be equal in all ranks; None where it is not known any more.
        changes: what the task changed in its process and left so, in words.
    """

    value: Any
    sync_state: Any = None
    changes: tuple[str, ...] = ()


def resolve(name: str) -> Any:
    """Returns the object at "package.module:name"; `task.name_of` makes such names."""
    module, _, attribute = name.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def attempt(function: Callable[[], Any], folder: str) -> Any:
    """Returns what a function returns, or how it failed; nothing that it raises escapes.

    Args:
        function: what to call.
        folder: lines of code are given relative to it.
    """
    try:
        return function()
    except Unsupported as declined:
        return Declined("unsupported", str(declined))
    except NotExercised as declined:
        return Declined("not-exercised", str(declined))
    except BaseException as error:  # noqa: BLE001 - code under test raises SystemExit too
        return raised(error, folder)


def raised(error: BaseException, folder: str) -> Raised:
    """Describes an exception in words."""
    kind = type(error)
    try:
        message = str(error)
    except BaseException as unreadable:  # noqa: BLE001 - code under test writes messages
        message = f"(its message cannot be read: {type(unreadable).__name__})"
    bases = tuple(ancestor.__name__ for ancestor in kind.__mro__[1:-1])
    return Raised(kind.__name__, message, bases, stack_frames.where(error.__traceback__, folder))


def encoded(reply: Reply, folder: str, limit: int) -> bytes:
    """Encodes a reply; where its value cannot be sent, an error that says so takes its place.

    Args:
        reply: what to send.
        folder: lines of code are given relative to it.
        limit: how many bytes its arrays may have.
    """

    def encode() -> bytes:
        return _encoded(reply, limit)

    message = attempt(encode, folder)
    if isinstance(message, bytes):
        return message
    failure = message
    if not (isinstance(message, Raised) and message.type == "WrongAnswer"):
        failure = Raised(
            getattr(message, "type", "TypeError"),
            f"the answer, a {type(reply.value).__name__}, cannot be sent: "
            f"{getattr(message, 'message', message)}",
            getattr(message, "bases", ()),
        )
    return _encoded(Reply(failure, reply.sync_state, reply.changes), limit)


def decoded(message: bytes, kinds: Iterable[type] = ()) -> Reply:
    """Decodes a reply, or says in its place why it cannot be read.

    Args:
        message: what a rank sent; anything at all may be in it.
        kinds: the dataclasses that its value may be made of, beside the outcomes.
    """
    try:
        reader = _Reader(message, {kind.__name__: kind for kind in (*_OUTCOMES, *kinds)})
        reply = Reply(*reader.top())
    except Exception as error:  # noqa: BLE001 - code under test may have written it
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Reply(Raised("WrongAnswer", f"its answer cannot be read: {words}"))
    return reply


def _encoded(reply: Reply, limit: int) -> bytes:
    arrays: list[np.ndarray] = []
    top = [_node(part, arrays) for part in (reply.value, reply.sync_state, reply.changes)]
    if (size := sum(array.nbytes for array in arrays)) > limit:
        raise WrongAnswer(f"gave {size} bytes, where no answer has more than {limit}")
    header = json.dumps(top, separators=(",", ":")).encode("ascii")
    if len(header) > HEADER_LIMIT:
        raise WrongAnswer(f"gave an answer whose parts take {len(header)} bytes to list")
    raw = (array.reshape(-1).view(np.uint8).data for array in arrays)
    return b"".join((_HEADER_LENGTH.pack(len(header)), header, *raw))


def _node(value: Any, arrays: list[np.ndarray]) -> Any:
    """Returns a value as JSON, in which an array, a list or a dataclass is a pair."""
    match value:
        case None | bool():
            return value
        case str():
            text = str.__str__(value)
            return text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "…"
        case int():
            return int.__index__(value)
        case float():
            return float.__float__(value)
        case np.ndarray() | np.generic():
            return ["array", _array(value, arrays)]
        case list():
            return ["list", [_node(element, arrays) for element in list.__iter__(value)]]
        case tuple():
            return ["tuple", [_node(element, arrays) for element in tuple.__iter__(value)]]
        case Mapping():
            pairs = [[_node(key, arrays), _node(value[key], arrays)] for key in value]
            return ["dict", pairs]
    if is_dataclass(value) and not isinstance(value, type):
        parts = [_node(getattr(value, part.name), arrays) for part in fields(value)]
        return [f"={type(value).__name__}", parts]
    raise TypeError(f"a {type(value).__name__} is no plain data")


def _array(value: Any, arrays: list[np.ndarray]) -> list[Any]:
    # A subclass may have any method of its own: np.array makes a plain array, and calls none.
    plain = np.array(value, order="C", subok=False)
    name = _NAMES.get(plain.dtype)
    if name is None:
        raise WrongAnswer(f"gave an array of dtype {plain.dtype}, which no case asks for")
    arrays.append(plain)
    return [name, list(plain.shape)]


class _Reader:
    """Reads one message; whatever is not as `_encoded` writes it raises ValueError."""

    def __init__(self, message: bytes, kinds: Mapping[str, type]) -> None:
        """Splits the message into its header and the bytes of its arrays."""
        (length,) = _HEADER_LENGTH.unpack(message[: _HEADER_LENGTH.size])
        start = _HEADER_LENGTH.size + length
        if length > HEADER_LIMIT or start > len(message):
            raise ValueError(f"a header of {length} bytes in {len(message)}")
        self._header = message[_HEADER_LENGTH.size : start]
        self._raw = memoryview(message)[start:]
        self._kinds = kinds

    def top(self) -> tuple[Any, Any, tuple[str, ...]]:
        """Returns the value, the sync state and the changes."""
        value, sync_state, changes = map(self._value, json.loads(self._header))
        if self._raw:
            raise ValueError(f"{len(self._raw)} bytes too many")
        if not (isinstance(changes, tuple) and all(isinstance(words, str) for words in changes)):
            raise ValueError("changes that are no texts")
        return value, sync_state, changes

    def _value(self, node: Any) -> Any:
        if node is None or isinstance(node, bool | int | float | str):
            return node
        tag, content = node
        match tag:
            case "list":
                return [self._value(element) for element in content]
            case "tuple":
                return tuple(self._value(element) for element in content)
            case "dict":
                return {self._value(key): self._value(value) for key, value in content}
            case "array":
                return self._array(*content)
        return self._instance(tag.removeprefix("="), [self._value(part) for part in content])

    def _array(self, name: str, shape: Sequence[int]) -> np.ndarray:
        dtype = _DTYPES[name]
        if len(shape) > 64 or any(type(length) is not int or length < 0 for length in shape):
            raise ValueError(f"a shape {shape!r:.80}")
        size = math.prod(shape) * dtype.itemsize
        if size > len(self._raw):
            raise ValueError(f"an array of {size} bytes in {len(self._raw)}")
        own, self._raw = self._raw[:size], self._raw[size:]
        # A copy: arrays of a message lie at any address, and can be written by whoever has them.
        return np.frombuffer(bytearray(own), dtype=np.uint8).view(dtype).reshape(shape)

    def _instance(self, name: str, parts: Sequence[Any]) -> Any:
        if name not in self._kinds:
            raise ValueError(f"it holds a {name}, which no answer is made of")
        value = self._kinds[name](*parts)
        match value:
            case Answer(arrays, flaw):
                is_right = isinstance(flaw, str) and isinstance(arrays, dict)
                is_right = is_right and all(isinstance(key, str) for key in arrays)
                is_right = is_right and all(isinstance(a, np.ndarray) for a in arrays.values())
            case Raised(kind, message, bases, where):
                is_right = isinstance(bases, tuple)
                is_right = is_right and _are_texts(kind, message, where, *bases)
            case Declined(status, reason):
                is_right = status in ("unsupported", "not-exercised") and _are_texts(reason)
            case _:
                is_right = True
        if not is_right:
            raise ValueError(f"a {name} whose parts are of other types")
        return value


def _are_texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)
