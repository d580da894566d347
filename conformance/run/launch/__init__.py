"""A run on several machines, joined by whoever launched it: torchrun, or `jax.distributed`.

There is no launcher here. Every process of the launch makes the same plan from the same arguments;
rank 0 judges, writes the results, and leads; the others answer. Whoever dies cuts the run short,
and what was finished stays on disk.
"""

import os
import sys
from typing import NoReturn

from conformance.run.launch.sharing import CutShortError

__all__ = ["CutShortError", "left"]


def left(status: int) -> NoReturn:
    """End this process at once: what else would run now may wait for processes that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
