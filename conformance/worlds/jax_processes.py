"""JAX processes joined by `jax.distributed`."""

import socket
from collections.abc import Mapping
from contextlib import closing

from conformance.worlds.jax_station import JaxPlace
from conformance.worlds.pool import NOTHING, Pool
from conformance.worlds.task import Task

_PRELOAD = ("jax", "jax.numpy", "jax.distributed")


class JaxProcesses(Pool):
    """Processes with some CPU devices each; every task runs in all of them."""

    station = "conformance.worlds.jax_station:JaxStation"

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
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self._coordinator = f"127.0.0.1:{probe.getsockname()[1]}"

    def _place(self, index: int) -> JaxPlace:
        return JaxPlace(index, self.size, self._devices, self._coordinator)
