"""Torch processes joined by gloo."""

import os
import shutil
import sys
from collections.abc import Mapping

from conformance.worlds.folders import new_folder
from conformance.worlds.pool import NOTHING, Pool
from conformance.worlds.task import Task
from conformance.worlds.torch_station import TorchPlace

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


class TorchRanks(Pool):
    """A pool of ranks that stays joined from task to task; a task of W ranks uses the first W."""

    station = "conformance.worlds.torch_station:TorchStation"

    def __init__(
        self, size: int = 8, prepare: str | None = None, environment: Mapping[str, str] = NOTHING
    ) -> None:
        """Start nothing yet.

        Args:
            size: how many ranks there are.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in them.
        """
        super().__init__(size, _PRELOAD, prepare, {**_loopback(), **environment})
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
        return TorchPlace(index, self.size, f"{self._folder}/store", sorted(self._groups))

    def _scatter(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""


def _loopback() -> dict[str, str]:
    """Where gloo listens: otherwise where the machine's name leads, which may be nowhere."""
    if "GLOO_SOCKET_IFNAME" in os.environ or sys.platform != "linux":
        return {}
    return {"GLOO_SOCKET_IFNAME": "lo"}
