"""What a rank sends is plain data, and nothing that is sent harms whoever reads it."""

import random
import socket
import time
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

from conformance.core.outcomes import Answer, Declined, Raised
from conformance.processes import wire
from conformance.processes.replies import MOST_TEXT, Reply, decoded, encoded

TOKEN = bytes(range(wire.TOKEN_SIZE))
LIMIT = 1 << 20


@dataclass(frozen=True)
class Pair:
    first: object
    second: object = None


def there_and_back(value, *kinds):
    return decoded(encoded(Reply(value), "/", LIMIT), kinds).value


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, float("inf"), "ü\ud800", [1, [2]], (1, ("a",)), {"a": {1: 2}}, {},
        Raised("E", "m", ("B",), "f:1"), Declined("unsupported", "no"), Pair(1, Pair("a", (None,))),
    ],
)  # fmt: skip
def test_plain_data_comes_back_as_it_was(value):
    assert there_and_back(value, Pair) == value


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3), np.array(3, np.int8), np.zeros((0, 4), bool),
        np.arange(6, dtype=">i4")[::-2], np.array([1.5], ml_dtypes.bfloat16),
        np.array([[1j]], np.complex64), np.float32(2), np.zeros((2, 0, 3), np.uint16),
    ],
)  # fmt: skip
def test_an_array_comes_back_with_its_bits_dtype_and_shape(array):
    back = there_and_back(Answer({"a": array}, "flaw")).arrays["a"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable


def test_a_class_that_is_not_listed_is_not_read():
    outcome = there_and_back(Pair(1))
    assert isinstance(outcome, Raised)
    words = "its answer cannot be read: ValueError: it holds a Pair, which no answer is made of"
    assert outcome.message == words


def test_a_long_text_is_cut():
    assert there_and_back(Raised("E", "x" * 10**7)).message == "x" * MOST_TEXT + "…"


def test_nesting_without_end_is_an_error_of_the_answer():
    deep = []
    deep.append(deep)
    assert isinstance(there_and_back(deep), Raised)


def test_no_change_of_a_reply_raises_or_takes_memory():
    """Ten thousand replies in which bytes were changed, cut or added: a value or one reason."""
    whole = encoded(Reply(Answer({"a": np.arange(4.0)}), (1, 2), ("x",)), "/", LIMIT)
    choose = random.Random(0)
    for _ in range(10_000):
        changed = bytearray(whole)
        for _ in range(choose.randrange(1, 4)):
            at = choose.randrange(len(changed))
            match choose.randrange(3):
                case 0:
                    changed[at] = choose.randrange(256)
                case 1:
                    del changed[at:]
                    changed += b"\0"
                case 2:
                    changed[at:at] = choose.randbytes(choose.randrange(9))
        reply = decoded(bytes(changed))
        assert isinstance(reply, Reply)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"A" * 64, "it wrote to the socket"),
        (b"A", "it wrote to the socket"),
        (TOKEN[:-1] + b"x", "it wrote to the socket"),
        (
            TOKEN + (1 << 60).to_bytes(8, "big"),
            "it announced an answer of 1152921504606846976 bytes",
        ),
    ],
)
def test_a_stray_write_or_a_lying_length_is_told_at_once(sent, words):
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.sendall(sent)
        with pytest.raises(wire.GarbledError, match=words):
            wire.receive_reply(reader, TOKEN, LIMIT, time.monotonic() + 5)


def test_a_length_that_is_not_kept_is_late_and_takes_no_memory():
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.sendall(TOKEN + (1 << 40).to_bytes(8, "big") + b"little")
        with pytest.raises(TimeoutError):
            wire.receive_reply(reader, TOKEN, 1 << 41, time.monotonic() + 0.1)
