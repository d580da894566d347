"""A run on several machines, joined by their launcher: torchrun, or `jax.distributed`.

This room launches no process. Every process of the launch makes the same plan from the same
arguments; rank 0 leads, judges and writes the results; the other ranks answer. A process that dies
cuts the run short, and finished checks stay on disk.
"""

import os
import sys
from typing import NoReturn

from conformance.run.launch.sharing import CutShortError

__all__ = ["CutShortError", "left"]


def left(status: int) -> NoReturn:
    """Ends this process at once: exit handlers might wait for processes that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
