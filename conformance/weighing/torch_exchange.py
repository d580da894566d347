"""What the ranks of a script tell each other while it is weighed, without the script's own groups.

A gloo group that no registry of torch knows of, over a store that is a corner of the script's or of
torchrun's: the script's own groups, their names and their order are what they would be without.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import distributed

from conformance.weighing.records import NOT_COME
from conformance.weighing.solve import BLOCK

_PREFIX = "conformance/weigh"
_STUCK = 20.0  # seconds in one place, a backward pass too far, after which a rank waits for others;
_SLOW = 4  # or so many times what this rank needs between two places, if that is more
_POLL = 0.002
_CHUNK = 16 * BLOCK  # elements that are gathered at a time


_exchanges = count()  # a store keeps the keys of groups that are gone


class Exchange:
    """The ranks of a script."""

    def __init__(self, seconds: float) -> None:
        """Join the others; a script of one process has none.

        Args:
            seconds: how long to wait for a rank.
        """
        self.rank, self.world = rank_and_world()
        self._timeout = self._wait = timedelta(seconds=seconds)
        self._noted = self._longest = 0.0
        self._group: Any = None
        self._store: Any = None
        if self.world > 1:
            prefix = f"{_PREFIX}/{next(_exchanges)}"
            self._store = distributed.PrefixStore(prefix, _store(self._timeout))

    def note(self, passes: int, steps: int) -> None:
        """Tell the others how many backward passes this rank has begun, and steps it came to."""
        if self._store is not None:
            now = time.monotonic()
            self._longest = max(self._longest, now - (self._noted or now))
            self._noted = now
            self._store.set(f"at/{self.rank}", json.dumps([passes, steps]))

    def absent(self, passes: int, steps: int) -> list[int]:
        """Wait until all ranks have come to a step; return those that went past it and are stuck.

        Args:
            passes: that this rank has begun.
            steps: that it came to, with this one.
        """
        if self._store is None:
            return []
        self.note(passes, steps)
        began = time.monotonic()
        patience = max(_STUCK, _SLOW * self._longest)
        since: dict[int, tuple[list[int], float]] = {}
        while True:
            late = {}
            for rank in range(self.world):
                at = json.loads(self._read(f"at/{rank}") or "[0, 0]")
                if at[1] < steps:
                    late[rank] = at
                    if rank not in since or since[rank][0] != at:
                        since[rank] = at, time.monotonic()
            past = [
                rank for rank, at in late.items()
                if at[0] > passes and time.monotonic() - since[rank][1] > patience
            ]  # fmt: skip
            if not late or past:
                return past
            if time.monotonic() - began > self._timeout.total_seconds():
                raise RuntimeError(NOT_COME)
            time.sleep(_POLL)

    def publish(self, words: str) -> None:
        """Leave the last word for ranks that are stuck."""
        if self._store is not None:
            self._store.set("last", words)

    def last_word(self) -> str:
        """Return what others left for this rank, empty if nothing."""
        return "" if self._store is None else self._read("last")

    def _read(self, key: str) -> str:
        return bytes(self._store.get(key)).decode() if self._store.check([key]) else ""

    def wait_at_most(self, seconds: float) -> None:
        """Wait so long for a rank from now on."""
        self._wait = timedelta(seconds=seconds)

    def gather(self, words: Any) -> list[Any]:
        """Return what every rank said, in the order of ranks; plain data alone."""
        if self.world == 1:
            return [words]
        data = torch.frombuffer(bytearray(json.dumps(words).encode()), dtype=torch.uint8)
        sizes = self._gathered(torch.tensor([len(data)]))
        longest = int(max(int(size) for size in sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(data)] = data
        return [
            json.loads(bytes(rows[: int(size)].tolist()))
            for rows, size in zip(self._gathered(padded), sizes, strict=True)
        ]

    def gather_rows(self, rows: torch.Tensor, counts: Sequence[int]) -> list[torch.Tensor]:
        """Return every rank's rows of one length; rank r has counts[r] of them."""
        if self.world == 1:
            return [rows]
        most = max(counts)
        padded = rows.new_zeros(most, rows.shape[1])
        padded[: len(rows)] = rows
        return [
            others[:count] for others, count in zip(self._gathered(padded), counts, strict=True)
        ]

    def total(self, array: np.ndarray) -> np.ndarray:
        """Return the sum over ranks, the same bits on all."""
        if self.world == 1:
            return array
        parts = self._gathered(torch.from_numpy(np.ascontiguousarray(array)))
        return np.sum([part.numpy() for part in parts], axis=0)

    def _gathered(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        outputs = [torch.empty_like(tensor) for _ in range(self.world)]
        if self._group is None:
            self._group = distributed.ProcessGroupGloo(
                self._store, self.rank, self.world, self._timeout
            )
        try:
            self._group.allgather([outputs], [tensor.contiguous()]).wait(self._wait)
        except RuntimeError as error:
            raise RuntimeError(NOT_COME) from error
        return outputs


def rank_and_world() -> tuple[int, int]:
    """Return them as the script's default group has them, else as torchrun says."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _store(timeout: timedelta) -> Any:
    if distributed.is_initialized():
        return distributed.distributed_c10d._get_default_store()
    return distributed.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timeout
    )


def chunks(sizes: Sequence[int]) -> Iterator[list[tuple[int, int, int]]]:
    """Cut parameters of these sizes into chunks of pieces (parameter, start, stop).

    >>> list(chunks([3, 2]))
    [[(0, 0, 3), (1, 0, 2)]]
    """
    pieces: list[tuple[int, int, int]] = []
    room = _CHUNK
    for parameter, size in enumerate(sizes):
        start = 0
        while start < size:
            stop = min(size, start + room)
            pieces.append((parameter, start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield pieces
                pieces, room = [], _CHUNK
    if pieces:
        yield pieces


def products(
    exchange: Exchange,
    rows: Sequence[Sequence[torch.Tensor | None]],
    sizes: Sequence[int],
    counts: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inner products of all ranks' rows, and which gradients are not rank 0's bits.

    Args:
        exchange: the ranks.
        rows: of each parameter this rank's vectors; the last of each is the gradient.
        sizes: of each parameter.
        counts: how many vectors each rank has.

    Returns:
        (parameters, Q, Q) in float64, Q the vectors of all ranks in their order; and
        (parameters, ranks), 1 where a rank's gradient differs from rank 0's in some bit.
    """
    width = sum(counts)
    grams = np.zeros((len(sizes), width, width))
    apart = np.zeros((len(sizes), len(counts)))
    lasts = np.cumsum(counts) - 1
    wide = any(v is not None and v.dtype == torch.float64 for vectors in rows for v in vectors)
    dtype = torch.float64 if any(exchange.gather(wide)) else torch.float32
    for turn, pieces in enumerate(chunks(sizes)):
        length = sum(stop - start for _, start, stop in pieces)
        stack = torch.zeros(counts[exchange.rank], length, dtype=dtype)
        at = 0
        for parameter, start, stop in pieces:
            for row, vector in enumerate(rows[parameter]):
                if vector is not None:
                    stack[row, at : at + stop - start] = vector.reshape(-1)[start:stop]
            at += stop - start
        gathered = exchange.gather_rows(stack, counts)
        if turn % exchange.world != exchange.rank:
            continue
        whole = torch.cat(gathered).double().numpy()
        at = 0
        for parameter, start, stop in pieces:
            piece = whole[:, at : at + stop - start]
            at += stop - start
            for block in range(0, piece.shape[1], BLOCK):
                part = piece[:, block : block + BLOCK]
                grams[parameter] += part @ part.T
            gradients = piece[lasts]
            apart[parameter] += (gradients != gradients[0]).any(axis=1)
    return exchange.total(grams), exchange.total(apart) > 0
