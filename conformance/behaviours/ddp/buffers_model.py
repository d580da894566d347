"""A model of DistributedDataParallel's buffers, and of batch normalisation over the ranks."""

from collections.abc import Sequence

import numpy as np

from conformance.behaviours.ddp.parts_model import exactly, refused


def before_forward(
    *,
    starts: Sequence[float],
    later: Sequence[float],
    mode: str = "train",
    after: str = "",
    option: str = "",
) -> dict[str, np.ndarray]:
    """Returns rank 0's buffer where DDP copies it, and every rank's own elsewhere.

    DDP copies it at construction, and before a forward in any mode, unless the previous forward
    had nothing to synchronise. Either option turns off the copy before a forward, and the older
    option also the copy at construction.
    """
    del mode
    when_built = option != "broadcast_buffers"
    in_forward = not option and after not in ("no_sync", "no_grad")
    return {
        "built": _copied(starts) if when_built else _own(starts),
        "seen": _copied(later) if in_forward else _own(later),
        "future_warnings": np.array(int(option == "broadcast_buffers")),
    }


def _own(values: Sequence[float]) -> np.ndarray:
    return exactly(np.array(values)[:, None])


def _copied(values: Sequence[float]) -> np.ndarray:
    return _own([values[0]] * len(values))


def sync_batch_norm(*, how: str) -> dict[str, np.ndarray]:
    """Refuses, in training and inside DDP alike."""
    del how
    return refused("ValueError")


def sync_batch_norm_eval(
    *, inputs: Sequence[Sequence[float]], mean: float, variance: float
) -> dict[str, np.ndarray]:
    """Returns (x − μ)/σ."""
    return {"outputs": exactly((np.array(inputs) - mean) / np.sqrt(variance))}
