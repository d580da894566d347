"""Compares in a fork of the command, so that a model that ends its process gives no verdict."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from conformance.core.outcomes import UsageError
from conformance.processes.exit_reasons import exit_reason
from conformance.processes.rank_process import die_with_parent

_VERDICTS, _MARK = (0, 1), b"v"


def enter() -> Callable[[int], NoReturn]:
    """Forks, and returns in the child alone: what ends it with a verdict.

    The parent ends as the child does. Statuses 0 and 1 say that models agree or part: they count
    only if the child was ended by what this function returned.

    Raises:
        UsageError: in the parent, if the child ended in another way and with no error of its own.
    """
    receiver, sender = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        os.close(receiver)
        die_with_parent(parent)  # Ctrl-C ends the parent, and so the child.
        return lambda status: _end(status, sender)
    os.close(sender)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    has_verdict = os.read(receiver, 1) == _MARK if status in _VERDICTS else status > 0
    os.close(receiver)
    if not has_verdict:
        raise UsageError(f"a model ended the process that runs it: {exit_reason(status)}")
    sys.exit(status)


def _end(status: int, sender: int) -> NoReturn:
    """Ends the child at once: threads that a model started do not hold it up."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # The reader may have closed its pipe.
            stream.flush()
    os.write(sender, _MARK)
    os._exit(status)
