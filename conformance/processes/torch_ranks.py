"""Torch processes joined by gloo, or by nccl where each has a GPU of its own."""

import os
import shutil
import sys
from collections.abc import Mapping

from conformance.processes.pool import NOTHING, Pool
from conformance.processes.task import Task
from conformance.processes.temp_folders import new_folder
from conformance.processes.torch_rendezvous import TorchPlace

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
# Groups made at every start, since making one takes all the ranks, also those not in it.
_USUAL_SIZES = (1, 2, 3, 4, 8)


class TorchNode(Pool):
    """One rank of a launch, of which the others live in other processes and on other machines.

    A task runs here as part of what all of its ranks do at the same time; what comes back is this
    rank's own. A node does not start again: of a rank that failed there is another, with its own
    key, which meets the others' anew.
    """

    station = "conformance.processes.torch_rendezvous:TorchStation"

    def __init__(
        self, place: TorchPlace, prepare: str | None, environment: Mapping[str, str] = NOTHING
    ) -> None:
        """Start nothing yet.

        Args:
            place: where the ranks meet: an address, and a key that no ranks had before.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in it.
        """
        on_loopback = place.store.startswith(("127.", "localhost:"))
        usual = _loopback() if on_loopback else NOTHING
        super().__init__(1, _PRELOAD, prepare, {**usual, **environment})
        self._joining = place

    def _refusal(self, task: Task) -> str:
        if task.ranks in self._joining.groups and self._joining.index < task.ranks:
            return ""
        return f"{task.ranks} ranks were asked of rank {self._joining.index} of {self._joining}"

    def _place(self, index: int) -> TorchPlace:
        del index
        return self._joining


class TorchRanks(Pool):
    """A pool of ranks that stays joined from task to task; a task of W ranks uses the first W."""

    station = "conformance.processes.torch_rendezvous:TorchStation"

    def __init__(
        self,
        size: int = 8,
        prepare: str | None = None,
        environment: Mapping[str, str] = NOTHING,
        device: str = "cpu",
    ) -> None:
        """Start nothing yet.

        Args:
            size: how many ranks there are.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in them.
            device: a kind, whose devices the ranks share out, or one that they all share.
        """
        super().__init__(size, _PRELOAD, prepare, {**_loopback(), **environment})
        self._device = device
        self._groups = {min(usual, size) for usual in _USUAL_SIZES} | {size}
        self._folder = ""

    def _fits(self, task: Task) -> bool:
        if task.ranks in self._groups:
            return True
        self._groups.add(task.ranks)  # the ranks start again, with a group of this size too
        return False

    def _gather(self) -> None:
        # A new folder each time: what dead ranks wrote into a store misleads the living.
        self._folder = str(new_folder("ranks"))

    def _place(self, index: int) -> TorchPlace:
        store, groups = f"{self._folder}/store", sorted(self._groups)
        return TorchPlace(index, self.size, store, groups, device=self._device)

    def _scatter(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""


def _loopback() -> dict[str, str]:
    """Where gloo listens: otherwise where the machine's name leads, which may be nowhere."""
    if "GLOO_SOCKET_IFNAME" in os.environ or sys.platform != "linux":
        return {}
    return {"GLOO_SOCKET_IFNAME": "lo"}
