"""What the processes of a launch tell each other, through the store that its engine keeps."""

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from conformance.run.launch.sharing import CutShortError

# A process tells twice a second that it lives. One that computes tells it too: a thread does.
_BEAT = 0.5
SILENCE = 15.0  # seconds without a sign after which a process is taken to be gone
_NAP = 0.01


class Store(Protocol):
    """What every engine has: values by key, which all processes see. Once gone: RuntimeError."""

    def set(self, key: str, value: Any) -> None:
        """Leave bytes."""

    def get(self, key: str) -> Any:
        """The bytes of a key that is there."""

    def check(self, keys: list[str]) -> bool:
        """Whether all of these are there."""


class Bus:
    """Messages by key, and the signs of life of every rank."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        """Give the first signs.

        Args:
            store: of the launch.
            rank: of this process.
            size: how many processes there are.
        """
        self.rank, self.size, self._store = rank, size, store
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
