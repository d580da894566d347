"""What DistributedDataParallel does with buffers, and with batch normalisation over the ranks."""

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
    """Rank 0's buffer where it is copied; every rank's own elsewhere.

    It is copied at construction, and before a forward in whatever mode, unless the forward before
    had nothing to synchronise. Either switch turns off the copy before a forward, and the old one
    that at construction too.
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
    """Refused, in training and inside DDP alike."""
    del how
    return refused("ValueError")


def sync_batch_norm_eval(
    *, inputs: Sequence[Sequence[float]], mean: float, variance: float
) -> dict[str, np.ndarray]:
    """(x − μ)/σ."""
    return {"outputs": exactly((np.array(inputs) - mean) / np.sqrt(variance))}
