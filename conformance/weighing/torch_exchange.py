"""What the ranks of a script tell each other while it is weighed, without the script's own groups.

A gloo group that no registry of torch knows of, over a store that is a corner of the script's or of
torchrun's: the script's own groups, their names and their order are what they would be without.
"""

import json
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import distributed

from conformance.weighing.solve import BLOCK

_PREFIX = "conformance/weigh"
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
        self._group: Any = None
        if self.world > 1:
            timeout = self._wait = timedelta(seconds=seconds)
            store = distributed.PrefixStore(f"{_PREFIX}/{next(_exchanges)}", _store(timeout))
            self._group = distributed.ProcessGroupGloo(store, self.rank, self.world, timeout)

    def wait_at_most(self, seconds: float) -> None:
        """Wait so long for a rank from now on."""
        self._wait = timedelta(seconds=seconds)

    def gather(self, words: Any) -> list[Any]:
        """Return what every rank said, in the order of ranks; plain data alone."""
        if self._group is None:
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
        if self._group is None:
            return [rows]
        most = max(counts)
        padded = rows.new_zeros(most, rows.shape[1])
        padded[: len(rows)] = rows
        return [
            others[:count] for others, count in zip(self._gathered(padded), counts, strict=True)
        ]

    def total(self, array: np.ndarray) -> np.ndarray:
        """Return the sum over ranks, the same bits on all."""
        if self._group is None:
            return array
        parts = self._gathered(torch.from_numpy(np.ascontiguousarray(array)))
        return np.sum([part.numpy() for part in parts], axis=0)

    def _gathered(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        outputs = [torch.empty_like(tensor) for _ in range(self.world)]
        try:
            self._group.allgather([outputs], [tensor.contiguous()]).wait(self._wait)
        except RuntimeError as error:
            text = "another rank did not come to this step: does every rank take the same steps?"
            raise RuntimeError(text) from error
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
