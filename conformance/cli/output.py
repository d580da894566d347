"""Standard output and standard error that outlive their readers.

A reader that is gone (`… | head`), a full disk or a closed descriptor ends output and nothing else:
the run goes on, and its exit status is its own.
"""

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import IO, Any


class Output:
    """A stream of which nothing is heard any more once it cannot be written."""

    def __init__(self, stream: IO[str]) -> None:
        """Takes the place of this stream."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text, or drops it."""
        try:
            return self._stream.write(text)
        except OSError:
            self._end()
            return len(text)

    def flush(self) -> None:
        """Writes what is buffered, or drops it."""
        try:
            self._stream.flush()
        except OSError:
            self._end()

    def _end(self) -> None:
        """Sends all that follows nowhere, what the buffers and other processes hold included."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        """Returns everything else of the stream."""
        return getattr(self._stream, name)


def outlive_readers() -> None:
    """Puts such streams in the place of standard output and standard error."""
    for number in range(3):
        _require_open(number)
    for number, name in enumerate(("stdout", "stderr"), start=1):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            # Half a character of a message, or a sign that an encoding lacks. Click would write
            # past this stream where its encoding is ASCII.
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            encoding = "utf-8" if is_ascii else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
        setattr(sys, name, Output(stream))


def _require_open(number: int) -> None:
    """Opens a standard stream that was closed: a file that took its number would get its output."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere == number:
            os.set_inheritable(nowhere, True)
        else:
            os.dup2(nowhere, number)
            os.close(nowhere)
