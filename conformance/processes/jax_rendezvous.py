"""A JAX process's place among the processes of `jax.distributed`."""

from collections.abc import Hashable
from dataclasses import dataclass

from conformance.processes.task import Rank


@dataclass(frozen=True)
class JaxPlace:
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


class JaxStation:
    """This process among the others, whose devices are all one list to JAX."""

    def __init__(self, place: JaxPlace) -> None:
        """Join the others."""
        import jax

        self._index = place.index
        jax.config.update("jax_num_cpu_devices", place.devices)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            coordinator_address=place.coordinator,
            num_processes=place.size,
            process_id=place.index,
        )
        # Finding all devices takes every process: here it is nobody's task that waits for them.
        assert jax.process_count() == place.size, jax.process_count()

    def rank(self, size: int) -> Rank:
        """This process; all of them take part in every task."""
        return Rank(self._index, size)

    def standing(self, size: int) -> Hashable:
        """Sound until a task takes the process out of the cluster."""
        import jax

        del size
        return True if jax.distributed.is_initialized() else None
