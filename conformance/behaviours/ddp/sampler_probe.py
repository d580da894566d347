"""What DistributedSampler gives each rank; it needs no process group where it is told the ranks."""

from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler

from conformance.behaviours.probe import Answers, Place


def _samplers(samples: int, replicas: int, **options: Any) -> list[Any]:
    """One sampler a rank, of a data set of so many samples."""
    return [
        DistributedSampler(range(samples), num_replicas=replicas, rank=rank, **options)
        for rank in range(replicas)
    ]


def shares(place: Place, *, samples: int, replicas: int, drop_last: bool = False) -> Answers:
    """Which samples each rank is given, (W, n), and how often each sample is used."""
    del place
    samplers = _samplers(samples, replicas, shuffle=False, drop_last=drop_last)
    given = np.array([list(sampler) for sampler in samplers], np.int64).reshape(replicas, -1)
    return {
        "shares": given,
        "lengths": np.array([len(sampler) for sampler in samplers]),
        "uses": np.bincount(given.ravel(), minlength=samples),
    }


def shuffled(place: Place, *, samples: int, replicas: int, drop_last: bool = False) -> Answers:
    """What of a shuffled list the ranks are given, taking turns: the list, and then its head again.

    The order itself is of torch's random numbers; told is what the promise says of any order.
    """
    del place
    samplers = _samplers(samples, replicas, shuffle=True, drop_last=drop_last)
    given = np.array([list(sampler) for sampler in samplers], np.int64)
    order = given.T.ravel()
    distinct = order[:samples]
    return {
        "shape": np.array(given.shape),
        "in_order": np.array((distinct == np.sort(distinct)).all()),
        "distinct": np.array(len(set(distinct.tolist()))),
        "repeats_the_head": np.array((order[samples:] == order[: len(order[samples:])]).all()),
    }


def epochs(place: Place, *, samples: int, replicas: int, epochs: int, set_epoch: bool) -> Answers:
    """Whether each epoch has the order of the first, on every rank: (W, epochs)."""
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
