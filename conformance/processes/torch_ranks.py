"""Torch processes joined by gloo, or by nccl where each has a GPU of its own."""

import datetime
import os
import shutil
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.core.rank import Rank
from conformance.processes.pool import NO_OVERRIDES, Pool
from conformance.processes.task import Task
from conformance.processes.temp_folders import new_folder

# The first DistributedDataParallel imports the compiler, which takes longer than all the rest.
_PRELOAD = (
    "torch",
    "torch.distributed",
    "torch._dynamo",
    "torch._dynamo.utils",
    "torch.optim",
    "torch.nn.parallel.distributed",
    "torch.distributed.optim",
)
# Groups of these sizes are made at every start, since making one later takes all the ranks.
_USUAL_SIZES = (1, 2, 3, 4, 8)
# The process that asks is the only clock: it ends a late rank long before gloo gives up.
_GLOO_TIMEOUT = datetime.timedelta(seconds=600)


@dataclass(frozen=True)
class TorchAddress:
    """Where the ranks meet.

    Attributes:
        index: this rank.
        size: how many there are.
        store: a file, empty or not there yet; or host:port of a TCP store that is kept elsewhere.
        groups: the sizes of the groups to make.
        key: how the ranks' own entries in the store begin.
        device: a kind, whose devices the ranks share out, or one device that they all share.
    """

    index: int
    size: int
    store: str
    groups: Sequence[int]
    key: str = ""
    device: str = "cpu"


def backend_of(size: int, devices: Sequence[Any]) -> str:
    """Returns the backend for so many ranks: nccl where each has a GPU of its own, else gloo.

    Nccl refuses two ranks on one GPU; gloo goes through the host, and takes tensors of any device.
    """
    import torch.distributed as dist

    has_own_gpus = devices[0].type == "cuda" and size <= len(devices)
    return "nccl" if has_own_gpus and dist.is_nccl_available() else "gloo"


class TorchRendezvous:
    """This process in the default process group of torch, and in a subgroup of each size."""

    def __init__(self, address: TorchAddress) -> None:
        """Joins the other ranks.

        Raises:
            Unsupported: if there is no such device.
        """
        import torch
        import torch.distributed as dist

        from conformance.frameworks.torch import devices as torch_devices

        torch.set_num_threads(1)
        devices = torch_devices.matching_devices(address.device)
        torch_devices.choose(devices[address.index % len(devices)])
        self._index = address.index
        host, _, port = address.store.rpartition(":")
        store = (
            dist.TCPStore(host, int(port), is_master=False, timeout=_GLOO_TIMEOUT)
            if port.isdecimal()
            else dist.FileStore(address.store, address.size)
        )
        if address.key:
            store = dist.PrefixStore(address.key, store)
        dist.init_process_group(
            "gloo", store=store, rank=address.index, world_size=address.size, timeout=_GLOO_TIMEOUT
        )
        self._all = dist.group.WORLD
        self._groups: dict[int, Any] = {
            size: dist.new_group(
                list(range(size)), timeout=_GLOO_TIMEOUT, backend=backend_of(size, devices)
            )
            for size in address.groups
        }

    def rank(self, size: int) -> Rank:
        """Returns this process as one of the first `size` ranks."""
        return Rank(self._index, size, self._groups[size])

    def sync_state(self, size: int) -> Hashable:
        """Returns how many collectives were begun; None where the task tore a group down.

        A rank that began more of them than its peers would meet the next task's with its own.
        """
        import torch.distributed as dist

        if dist.group.WORLD is not self._all:
            return None
        group = self._groups[size]
        dist.get_rank(group)  # This raises for a group that was destroyed.
        return group._get_sequence_number_for_group(), self._all._get_sequence_number_for_group()


class TorchNode(Pool):
    """One rank of a launch whose other ranks live in other processes and on other machines.

    A task runs here as part of what all its ranks do at the same time; what is returned is this
    rank's own value. A node does not start again: a failed rank is replaced by another node, with a
    key of its own, which meets the others' new ones.
    """

    rendezvous = TorchRendezvous

    def __init__(
        self,
        address: TorchAddress,
        prepare: str | None,
        environment: Mapping[str, str] = NO_OVERRIDES,
    ) -> None:
        """Starts no process; the first `run` does.

        Args:
            address: where the ranks meet, with a key that no ranks had before.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in it.
        """
        is_on_loopback = address.store.startswith(("127.", "localhost:"))
        usual = _loopback() if is_on_loopback else NO_OVERRIDES
        super().__init__(1, _PRELOAD, prepare, {**usual, **environment})
        self._own_address = address

    def _refusal(self, task: Task) -> str:
        if task.ranks in self._own_address.groups and self._own_address.index < task.ranks:
            return ""
        return (
            f"{task.ranks} ranks were asked of rank {self._own_address.index} of "
            f"{self._own_address}"
        )

    def _address(self, index: int) -> TorchAddress:
        del index
        return self._own_address


class TorchRanks(Pool):
    """A pool of ranks that stays joined from task to task; a task of W ranks uses the first W."""

    rendezvous = TorchRendezvous

    def __init__(
        self,
        size: int = 8,
        prepare: str | None = None,
        environment: Mapping[str, str] = NO_OVERRIDES,
        device: str = "cpu",
        *,
        preload: Sequence[str] = (),
        late: Mapping[str, str] = NO_OVERRIDES,
        is_alone: bool = False,
    ) -> None:
        """Starts no process; the first `run` does.

        Args:
            size: how many ranks there are.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in them, and in their fork server.
            preload: modules that they find imported besides; first, since other worlds have them.
            late: environment variables to set in them alone.
            device: a kind, whose devices the ranks share out, or one device that they all share.
            is_alone: whether they run code from outside; see `Pool`.
        """
        super().__init__(
            size,
            (*preload, *_PRELOAD),
            prepare,
            environment,
            late={**_loopback(), **late},
            is_alone=is_alone,
        )
        self._device = device
        self._groups = {min(usual, size) for usual in _USUAL_SIZES} | {size}
        self._folder = ""

    def _fits(self, task: Task) -> bool:
        if task.ranks in self._groups:
            return True
        self._groups.add(task.ranks)  # The ranks start again, with a group of this size too.
        return False

    def _make_meeting_point(self) -> None:
        # Entries that dead ranks wrote into a store mislead new ones: so each start has a folder.
        self._folder = str(new_folder("ranks"))

    def _address(self, index: int) -> TorchAddress:
        store, groups = f"{self._folder}/store", sorted(self._groups)
        return TorchAddress(index, self.size, store, groups, device=self._device)

    def _can_meet(self) -> bool:
        return Path(self._folder).is_dir()

    def _remove_meeting_point(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""


def _loopback() -> dict[str, str]:
    """Returns where gloo listens: else it listens where the machine's name leads, if anywhere."""
    if "GLOO_SOCKET_IFNAME" in os.environ or sys.platform != "linux":
        return {}
    return {"GLOO_SOCKET_IFNAME": "lo"}
