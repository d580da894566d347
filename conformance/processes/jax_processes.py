"""JAX processes joined by `jax.distributed`."""

import socket
from collections.abc import Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from conformance.core.rank import Rank
from conformance.processes.pool import NO_OVERRIDES, Pool
from conformance.processes.task import Task

_PRELOAD = ("jax", "jax.numpy", "jax.distributed")


@dataclass(frozen=True)
class JaxAddress:
    """Where the processes meet.

    Attributes:
        index: this process.
        size: how many there are.
        devices: how many CPU devices each has.
        coordinator: the address where process 0 waits for the others.
    """

    index: int
    size: int
    devices: int
    coordinator: str


class JaxRendezvous:
    """This process among the others, whose devices are all in one list to JAX."""

    def __init__(self, address: JaxAddress) -> None:
        """Joins the other processes."""
        import jax

        self._index = address.index
        jax.config.update("jax_num_cpu_devices", address.devices)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            coordinator_address=address.coordinator,
            num_processes=address.size,
            process_id=address.index,
        )
        # Listing all devices waits for every process: done here, it is on no task's clock.
        assert jax.process_count() == address.size, jax.process_count()

    def rank(self, size: int) -> Rank:
        """Returns this process; all of them take part in every task."""
        return Rank(self._index, size)

    def sync_state(self, size: int) -> Hashable:
        """Returns True; None where a task took the process out of the cluster."""
        import jax

        del size
        return True if jax.distributed.is_initialized() else None


class JaxNode(Pool):
    """One process of a launch, of which the others live on other machines; see `TorchNode`."""

    rendezvous = JaxRendezvous

    def __init__(
        self,
        address: JaxAddress,
        prepare: str | None,
        environment: Mapping[str, str] = NO_OVERRIDES,
    ) -> None:
        """Starts no process; the first `run` does.

        Args:
            address: where the processes meet: a coordinator that no processes had before.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in it.
        """
        super().__init__(1, _PRELOAD, prepare, environment)
        self._own_address = address

    def _refusal(self, task: Task) -> str:
        if task.ranks == self._own_address.size:
            return ""
        size = self._own_address.size
        return f"{task.ranks} ranks were asked of a launch where all {size} take part"

    def _address(self, index: int) -> JaxAddress:
        del index
        return self._own_address


class JaxProcesses(Pool):
    """Processes with some CPU devices each; every task runs in all of them."""

    rendezvous = JaxRendezvous

    def __init__(
        self,
        processes: int = 2,
        devices: int = 2,
        prepare: str | None = None,
        environment: Mapping[str, str] = NO_OVERRIDES,
        *,
        preload: Sequence[str] = (),
        late: Mapping[str, str] = NO_OVERRIDES,
        is_alone: bool = False,
    ) -> None:
        """Starts no process; the first `run` does.

        Args:
            processes: how many there are.
            devices: how many CPU devices each has.
            prepare: "package.module:name" of a function to call in each new process, or None.
            environment: environment variables to set in them, and in their fork server.
            preload: modules that they find imported besides; first, since other worlds have them.
            late: environment variables to set in them alone.
            is_alone: whether they run code from outside; see `Pool`.
        """
        super().__init__(
            processes,
            (*preload, *_PRELOAD),
            prepare,
            environment,
            late=late,
            is_alone=is_alone,
        )
        self._devices = devices
        self._coordinator = ""

    def _refusal(self, task: Task) -> str:
        if task.ranks == self.size:
            return ""
        return f"{task.ranks} ranks were asked of a world where all {self.size} take part"

    def _make_meeting_point(self) -> None:
        # Until process 0 starts, another program may take the port. Then the start fails with the
        # address in its message, and the next task tries another port.
        self._coordinator = free_address("127.0.0.1")

    def _address(self, index: int) -> JaxAddress:
        return JaxAddress(index, self.size, self._devices, self._coordinator)


def free_address(host: str) -> str:
    """Returns host:port of this machine, with a port that is free at this moment."""
    with closing(socket.socket()) as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"
