"""Ctrl-C, heard between two checks.

Raised wherever it happens to come, it is lost in a callback of the garbage collector, or leaves
Hypothesis in the middle of its own bookkeeping.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heard() -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C is only noted, and the second one raises as usual.

    Yields:
        A function that says whether there was one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals come to the main thread alone
        return
    came = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if came.is_set():
            signal.default_int_handler(number, frame)
        came.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, before)
