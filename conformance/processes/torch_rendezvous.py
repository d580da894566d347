"""A torch rank's place among the ranks: a group of each size, made once."""

import datetime
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.processes.task import Rank

# The process that asks is the only clock: it ends whoever is late, long before gloo gives up.
_GLOO_TIMEOUT = datetime.timedelta(seconds=600)


@dataclass(frozen=True)
class TorchPlace:
    """Where the ranks meet.

    Attributes:
        index: this rank.
        size: how many there are.
        store: a file, empty or not there yet; or host:port of a TCP store that somebody else keeps.
        groups: the sizes of the groups to make.
        key: how the ranks' own entries in the store begin.
        device: a kind, whose devices the ranks share out, or one that they all share.
    """

    index: int
    size: int
    store: str
    groups: Sequence[int]
    key: str = ""
    device: str = "cpu"


def backend_of(size: int, devices: Sequence[Any]) -> str:
    """What joins so many ranks: nccl where each has a GPU of its own, else gloo.

    nccl refuses two ranks on one GPU; gloo goes through the host, and takes tensors of any device.
    """
    import torch.distributed as dist

    own = devices[0].type == "cuda" and size <= len(devices)
    return "nccl" if own and dist.is_nccl_available() else "gloo"


class TorchStation:
    """This process in the default process group of torch, and in a subgroup of each size."""

    def __init__(self, place: TorchPlace) -> None:
        """Join the others.

        Raises:
            Unsupported: if there is no such device.
        """
        import torch
        import torch.distributed as dist

        from conformance.frameworks.torch import devices as torch_devices

        torch.set_num_threads(1)
        devices = torch_devices.matching_devices(place.device)
        torch_devices.choose(devices[place.index % len(devices)])
        self._index = place.index
        host, _, port = place.store.rpartition(":")
        store = (
            dist.TCPStore(host, int(port), is_master=False, timeout=_GLOO_TIMEOUT)
            if port.isdecimal()
            else dist.FileStore(place.store, place.size)
        )
        if place.key:
            store = dist.PrefixStore(place.key, store)
        dist.init_process_group(
            "gloo", store=store, rank=place.index, world_size=place.size, timeout=_GLOO_TIMEOUT
        )
        self._all = dist.group.WORLD
        self._groups: dict[int, Any] = {
            size: dist.new_group(
                list(range(size)), timeout=_GLOO_TIMEOUT, backend=backend_of(size, devices)
            )
            for size in place.groups
        }

    def rank(self, size: int) -> Rank:
        """This process as one of the first `size` ranks."""
        return Rank(self._index, size, self._groups[size])

    def standing(self, size: int) -> Hashable:
        """How many collectives were begun; None where the task tore a group down.

        A rank that began more of them than its peers would meet the next task's with its own.
        """
        import torch.distributed as dist

        if dist.group.WORLD is not self._all:
            return None
        group = self._groups[size]
        dist.get_rank(group)  # raises for a group that was destroyed
        return group._get_sequence_number_for_group(), self._all._get_sequence_number_for_group()
