"""JAX processes joined by `jax.distributed`."""

import socket
from collections.abc import Mapping
from contextlib import closing

from conformance.processes.jax_rendezvous import JaxPlace
from conformance.processes.pool import NOTHING, Pool
from conformance.processes.task import Task

_PRELOAD = ("jax", "jax.numpy", "jax.distributed")


class JaxNode(Pool):
    """One process of a launch, of which the others live on other machines; see `TorchNode`."""

    station = "conformance.processes.jax_rendezvous:JaxStation"

    def __init__(
        self, place: JaxPlace, prepare: str | None, environment: Mapping[str, str] = NOTHING
    ) -> None:
        """Start nothing yet.

        Args:
            place: where the processes meet: at an address that none had before.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in it.
        """
        super().__init__(1, _PRELOAD, prepare, environment)
        self._joining = place

    def _refusal(self, task: Task) -> str:
        if task.ranks == self._joining.size:
            return ""
        return f"{task.ranks} ranks were asked of a launch where all {self._joining.size} take part"

    def _place(self, index: int) -> JaxPlace:
        del index
        return self._joining


def free_address(host: str) -> str:
    """host:port of this machine, of a port that is free at this moment."""
    with closing(socket.socket()) as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


class JaxProcesses(Pool):
    """Processes with some CPU devices each; every task runs in all of them."""

    station = "conformance.processes.jax_rendezvous:JaxStation"

    def __init__(
        self,
        processes: int = 2,
        devices: int = 2,
        prepare: str | None = None,
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        """Start nothing yet.

        Args:
            processes: how many there are.
            devices: how many CPU devices each has.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in them.
        """
        super().__init__(processes, _PRELOAD, prepare, environment)
        self._devices = devices
        self._coordinator = ""

    def _refusal(self, task: Task) -> str:
        if task.ranks == self.size:
            return ""
        return f"{task.ranks} ranks were asked of a world where all {self.size} take part"

    def _gather(self) -> None:
        # Between this and the start of process 0 another program may take the port. Then the
        # start fails with the address in its message, and the next task tries another one.
        self._coordinator = free_address("127.0.0.1")

    def _place(self, index: int) -> JaxPlace:
        return JaxPlace(index, self.size, self._devices, self._coordinator)
