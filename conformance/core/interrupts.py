"""SIGTERM and SIGHUP, which CI servers and closing terminals send, as what Ctrl-C is."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Makes the first of these signals a KeyboardInterrupt; later ones change nothing.

    A signal that is ignored, as SIGHUP under nohup, stays ignored.
    """
    is_told = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        if not is_told.is_set():
            is_told.set()
            raise KeyboardInterrupt

    with handled(end):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets these signals pass without effect: what was asked is being written, and takes moments.

    Ctrl-C still ends the process, for a user who does not want to wait.
    """
    with handled(lambda *_: None):
        yield


@contextmanager
def handled(
    handler: Callable[[int, FrameType | None], Any], numbers: Sequence[signal.Signals] = SIGNALS
) -> Iterator[None]:
    """Handles these signals so; outside the main thread, where no signal comes, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in numbers}
    caught = [number for number, old in previous.items() if old is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, previous[number])
