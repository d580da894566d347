"""What the processes of a torchrun launch tell each other, through the store it keeps."""

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from conformance.worker.launch import CutShortError

# A process tells twice a second that it lives. One that computes tells it too: a thread does.
_BEAT = 0.5
SILENCE = 15.0  # seconds without a sign after which a process is taken to be gone
_NAP = 0.01
_PREFIX = "conformance"


class Bus:
    """Messages by key, and the signs of life of every rank.

    Only what a plain key-value store can do is used, so that any rendezvous of torchrun will do.
    """

    def __init__(self, rank: int, size: int, timeout: float) -> None:
        """Join.

        Args:
            rank: of this process.
            size: how many processes there are.
            timeout: seconds to wait for the store.

        Raises:
            CutShortError: if there is no store at the launch's address in time.
        """
        import torch.distributed as dist

        self.rank, self.size = rank, size
        try:
            store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=timeout)))
        except (RuntimeError, ValueError) as error:
            raise CutShortError(f"no store at the launch's address: {error}") from error
        self._store = dist.PrefixStore(_PREFIX, store)
        self._seen = dict.fromkeys(range(size), (b"", time.monotonic()))
        self._over = threading.Event()
        self._parent = os.getppid()
        threading.Thread(target=self._live, name="signs-of-life", daemon=True).start()

    def put(self, key: str, value: Any) -> None:
        """Leave a message, anything that pickles."""
        self._safely(self._store.set, key, pickle.dumps(value, protocol=5))

    def is_there(self, keys: Iterable[str]) -> bool:
        """Whether all of these messages have been left."""
        return bool(self._safely(self._store.check, list(keys)))

    def take(self, key: str, sender: int, until: Callable[[], bool] = lambda: False) -> Any:
        """Wait for a message, as long as its sender lives.

        Args:
            key: its key.
            sender: the rank that leaves it.
            until: what ends the waiting early; the message is None then.

        Raises:
            CutShortError: if the sender gives no sign of life any more, or the store is gone.
        """
        while not self.is_there([key]):
            if until():
                return None
            self.look_after([sender])
            time.sleep(_NAP)
        return pickle.loads(self._safely(self._store.get, key))

    def look_after(self, ranks: Iterable[int]) -> None:
        """Look whether these live.

        Raises:
            CutShortError: naming one that has been silent for too long.
        """
        now = time.monotonic()
        for rank in ranks:
            last, since = self._seen[rank]
            if now - since < 2 * _BEAT:
                continue
            key = f"lives/{rank}"
            sign = self._safely(self._store.get, key) if self.is_there([key]) else b""
            if sign != last:
                self._seen[rank] = (sign, now)
            elif now - since > SILENCE:
                raise CutShortError(f"rank {rank} has given no sign of life for {SILENCE:.0f} s")

    def leave(self) -> None:
        """Give no more signs of life."""
        self._over.set()

    def _live(self) -> None:
        beats = 0
        while not self._over.wait(_BEAT):
            if os.getppid() != self._parent:  # the agent of this machine was killed
                os._exit(3)
            beats += 1
            try:
                self._store.set(f"lives/{self.rank}", str(beats))
            except RuntimeError:  # the thread that asks finds the store gone too, and says so
                return

    def _safely(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RuntimeError as error:
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CutShortError(f"the launch's store does not answer: {words}") from error
