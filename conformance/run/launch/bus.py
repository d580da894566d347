"""Messages between the processes of a launch, through the store that its engine keeps."""

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from conformance.run.launch.sharing import CutShortError

# A thread of each process gives a sign of life twice a second, also while the process computes.
_BEAT = 0.5
# After so many seconds without a sign, a process is taken to be gone.
SILENCE = 15.0
_NAP = 0.01


class Store(Protocol):
    """A store of values by key, which all processes see; it raises RuntimeError once it is gone."""

    def set(self, key: str, value: Any) -> None:
        """Stores bytes."""

    def get(self, key: str) -> Any:
        """Returns the bytes of a key that exists."""

    def check(self, keys: list[str]) -> bool:
        """Says whether all of these keys exist."""


class Bus:
    """Messages by key, and the signs of life of every rank."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        """Starts to give signs of life.

        Args:
            store: the store of the launch.
            rank: the rank of this process.
            size: how many processes there are.
        """
        self.rank, self.size, self._store = rank, size, store
        self._seen = dict.fromkeys(range(size), (b"", time.monotonic()))
        self._over = threading.Event()
        self._parent = os.getppid()
        threading.Thread(target=self._live, name="signs-of-life", daemon=True).start()

    def put(self, key: str, value: Any) -> None:
        """Stores a message, which may be anything that pickles."""
        self._safely(self._store.set, key, pickle.dumps(value, protocol=5))

    def is_there(self, keys: Iterable[str]) -> bool:
        """Says whether all of these messages have been stored."""
        return bool(self._safely(self._store.check, list(keys)))

    def take(self, key: str, sender: int, until: Callable[[], bool] = lambda: False) -> Any:
        """Waits for a message, as long as its sender lives.

        Args:
            key: the message's key.
            sender: the rank that stores it.
            until: says when to stop waiting; the message is None then.

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
        """Checks that these ranks live.

        Raises:
            CutShortError: names a rank that has been silent for too long.
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
        """Stops the signs of life."""
        self._over.set()

    def _live(self) -> None:
        beats = 0
        while not self._over.wait(_BEAT):
            if os.getppid() != self._parent:
                # The agent of this machine was killed.
                os._exit(3)
            beats += 1
            try:
                self._store.set(f"lives/{self.rank}", str(beats))
            except RuntimeError:
                # The thread that asks also notices that the store is gone, and reports it.
                return

    def _safely(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except RuntimeError as error:
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CutShortError(f"the launch's store does not answer: {words}") from error
