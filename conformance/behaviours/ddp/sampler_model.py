"""What DistributedSampler gives each rank."""

import itertools

import numpy as np


def _order(samples: int, replicas: int, *, drop_last: bool) -> list[int]:
    """The list that ranks take turns on: its head again until they come out even, or cut."""
    if drop_last:
        return list(range(samples - samples % replicas))
    length = -(-samples // replicas) * replicas
    return list(itertools.islice(itertools.cycle(range(samples)), length))


def shares(*, samples: int, replicas: int, drop_last: bool = False) -> dict[str, np.ndarray]:
    """Rank r takes every W-th from r."""
    order = np.array(_order(samples, replicas, drop_last=drop_last), np.int64)
    return {
        "shares": order.reshape(-1, replicas).T,
        "lengths": np.full(replicas, len(order) // replicas),
        "uses": np.bincount(order, minlength=samples),
    }


def shuffled(*, samples: int, replicas: int, drop_last: bool = False) -> dict[str, np.ndarray]:
    """As many, of a list in another order."""
    order = _order(samples, replicas, drop_last=drop_last)
    return {
        "shape": np.array([replicas, len(order) // replicas]),
        "in_order": np.array(False),
        "distinct": np.array(len(set(order))),
        "repeats_the_head": np.array(True),
    }


def epochs(*, samples: int, replicas: int, epochs: int, set_epoch: bool) -> dict[str, np.ndarray]:
    """The same order throughout, unless each epoch is told its number."""
    del samples
    same = [not set_epoch or epoch == 0 for epoch in range(epochs)]
    return {"same_order": np.array([same] * replicas)}
