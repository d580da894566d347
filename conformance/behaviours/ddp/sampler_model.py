"""A model of DistributedSampler's samples for each rank."""

import itertools

import numpy as np


def _order(samples: int, replicas: int, *, drop_last: bool) -> list[int]:
    """Returns the list that ranks divide: with its head repeated, or cut, to a multiple of W."""
    if drop_last:
        return list(range(samples - samples % replicas))
    length = -(-samples // replicas) * replicas
    return list(itertools.islice(itertools.cycle(range(samples)), length))


def shares(*, samples: int, replicas: int, drop_last: bool = False) -> dict[str, np.ndarray]:
    """Gives rank r every W-th sample from r."""
    order = np.array(_order(samples, replicas, drop_last=drop_last), np.int64)
    return {
        "shares": order.reshape(-1, replicas).T,
        "lengths": np.full(replicas, len(order) // replicas),
        "uses": np.bincount(order, minlength=samples),
    }


def shuffled(*, samples: int, replicas: int, drop_last: bool = False) -> dict[str, np.ndarray]:
    """Gives as many samples, of a list in another order."""
    order = _order(samples, replicas, drop_last=drop_last)
    return {
        "shape": np.array([replicas, len(order) // replicas]),
        "in_order": np.array(False),
        "distinct": np.array(len(set(order))),
        "repeats_the_head": np.array(True),
    }


def epochs(*, samples: int, replicas: int, epochs: int, set_epoch: bool) -> dict[str, np.ndarray]:
    """Keeps the same order, unless each epoch sets its number."""
    del samples
    same = [not set_epoch or epoch == 0 for epoch in range(epochs)]
    return {"same_order": np.array([same] * replicas)}
