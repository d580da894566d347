"""How a process ended, in words."""

import os
import signal

_MOST_LINES, _MOST_CHARACTERS = 3, 400
_HINTS = {signal.SIGKILL: " (from outside; the system does this when memory runs out)"}


def ending(status: int) -> str:
    """An exit status as `os.waitstatus_to_exitcode` gives it.

    >>> ending(3)
    'exit status 3'
    >>> ending(-11)
    'SIGSEGV'
    """
    if status >= 0:
        return f"exit status {status}"
    try:
        number = signal.Signals(-status)
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"
    return number.name + _HINTS.get(number, "")


def last_words(log: int, start: int) -> str:
    """The last lines that a process wrote since its log was `start` bytes long; empty if none."""
    size = os.fstat(log).st_size
    start = max(start, size - 10 * _MOST_CHARACTERS)
    text = os.pread(log, max(0, size - start), start).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = " | ".join(lines[-_MOST_LINES:])
    if len(words) > _MOST_CHARACTERS:
        words = "…" + words[-_MOST_CHARACTERS:]
    return f"; it last wrote: {words}" if words else ""
