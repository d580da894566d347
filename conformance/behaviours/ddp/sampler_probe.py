"""Probes DistributedSampler, which needs no process group if its arguments name the ranks."""

from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler

from conformance.behaviours.probe import Answers, Place


def _samplers(samples: int, replicas: int, **options: Any) -> list[Any]:
    """Makes a sampler for each rank, of a data set of so many samples."""
    return [
        DistributedSampler(range(samples), num_replicas=replicas, rank=rank, **options)
        for rank in range(replicas)
    ]


def shares(place: Place, *, samples: int, replicas: int, drop_last: bool = False) -> Answers:
    """Returns each rank's samples, (W, n), and how often each sample is used."""
    del place
    samplers = _samplers(samples, replicas, shuffle=False, drop_last=drop_last)
    by_rank = np.array([list(sampler) for sampler in samplers], np.int64).reshape(replicas, -1)
    return {
        "shares": by_rank,
        "lengths": np.array([len(sampler) for sampler in samplers]),
        "uses": np.bincount(by_rank.ravel(), minlength=samples),
    }


def shuffled(place: Place, *, samples: int, replicas: int, drop_last: bool = False) -> Answers:
    """Asks how the ranks divide a shuffled list: the list, and then its head again.

    The order comes from torch's random numbers; the answers hold for any order.
    """
    del place
    samplers = _samplers(samples, replicas, shuffle=True, drop_last=drop_last)
    by_rank = np.array([list(sampler) for sampler in samplers], np.int64)
    order = by_rank.T.ravel()
    distinct = order[:samples]
    return {
        "shape": np.array(by_rank.shape),
        "in_order": np.array((distinct == np.sort(distinct)).all()),
        "distinct": np.array(len(set(distinct.tolist()))),
        "repeats_the_head": np.array((order[samples:] == order[: len(order[samples:])]).all()),
    }


def epochs(place: Place, *, samples: int, replicas: int, epochs: int, set_epoch: bool) -> Answers:
    """Says whether each epoch has the order of the first, on every rank: (W, epochs)."""
    del place
    same = []
    for sampler in _samplers(samples, replicas, shuffle=True):
        orders = []
        for epoch in range(epochs):
            if set_epoch:
                sampler.set_epoch(epoch)
            orders.append(list(sampler))
        same.append([order == orders[0] for order in orders])
    return {"same_order": np.array(same)}
