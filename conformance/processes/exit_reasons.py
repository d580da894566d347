"""Says in words how a process ended."""

import os
import re
import signal
from collections.abc import Sequence

_MOST_LINES, _MOST_CHARACTERS, _TAIL = 3, 400, 16_384
_HINTS = {signal.SIGKILL: " (as when memory runs out)"}
# The C++ libraries under the frameworks begin the line that says why they gave up like this.
_FATAL = re.compile(r"^(F\d{4} |terminate called)|Check failed")
_NATIVE_FRAME = re.compile(r"^(@ +0x|\*\*\* )")


def exit_reason(status: int) -> str:
    """Describes an exit status as `os.waitstatus_to_exitcode` returns it.

    >>> exit_reason(3)
    'exit status 3'
    >>> exit_reason(-11)
    'SIGSEGV'
    """
    if status >= 0:
        return f"exit status {status}"
    try:
        number = signal.Signals(-status)
    except ValueError:  # A real-time signal has no name.
        return f"signal {-status}"
    return number.name + _HINTS.get(number, "")


def last_output(log: int, start: int) -> str:
    """Returns the last lines that a process wrote since its log was `start` bytes long."""
    size = os.fstat(log).st_size
    start = max(start, size - _TAIL)
    text = os.pread(log, max(0, size - start), start).decode(errors="replace")
    words = _excerpt([line.strip() for line in text.splitlines()])
    return f"; it last wrote: {words}" if words else ""


def _excerpt(lines: Sequence[str]) -> str:
    """Returns the lines that say why the process ended, where any does; else the last ones.

    >>> _excerpt(["loading", "F0101 client.h:80] Another task died", "*** stack: ***", "@ 0x1"])
    'F0101 client.h:80] Another task died'
    """
    lines = [line for line in lines if line and not _NATIVE_FRAME.match(line)]
    for index in reversed(range(len(lines))):
        if _FATAL.search(lines[index]):
            words = " | ".join(lines[index : index + _MOST_LINES])
            return words if len(words) <= _MOST_CHARACTERS else words[:_MOST_CHARACTERS] + "…"
    words = " | ".join(lines[-_MOST_LINES:])
    return words if len(words) <= _MOST_CHARACTERS else "…" + words[-_MOST_CHARACTERS:]
