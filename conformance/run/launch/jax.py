"""The processes that a JAX launch started: by a cluster that JAX knows, or one by one."""

from collections.abc import Mapping
from dataclasses import dataclass

from conformance.behaviours.jax.processes_cases import devices_of
from conformance.core.checks import Check
from conformance.core.outcomes import UsageError
from conformance.processes import JaxAddress, JaxNode, World, free_address
from conformance.run.launch import stores
from conformance.run.launch.bus import Bus
from conformance.run.launch.ranks import Joined
from conformance.run.launch.sharing import Sharing, shared
from conformance.run.plan import Plan

_HOW = (
    "start it in every process as --jax --coordinator HOST:PORT --processes N --process I, or "
    "without these three where JAX finds its cluster itself, as under Slurm or on a TPU pod"
)


@dataclass(frozen=True)
class JaxLaunch:
    """One process of the launch.

    Attributes:
        rank: of this process.
        size: how many processes there are.
        devices: how many CPU devices each process has.
        host: this machine, as the others reach it.
    """

    rank: int
    size: int
    devices: int
    host: str
    engine: str = "jax.distributed"

    def takes_part(self, check: Check) -> int:
        """All of them: a program of JAX runs everywhere."""
        del check
        return self.size

    def joined(self, generation: int, bus: Bus, environment: Mapping[str, str]) -> World:
        """A process that computes, in a cluster beside the launch's, which outlives it."""
        key = f"coordinator/{generation}"
        if self.rank == 0:
            bus.put(key, free_address(self.host))
        address = JaxAddress(self.rank, self.size, self.devices, bus.take(key, 0))
        return JaxNode(address, "conformance.frameworks.jax.devices:full_precision", environment)


def joined(
    plan: Plan,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    devices: int,
) -> Joined:
    """Join the launch, by `jax.distributed.initialize`.

    Args:
        plan: of which it is asked what takes several processes.
        coordinator: host:port of process 0; None, as the next two, where JAX knows its cluster.
        processes: how many there are.
        process: which of them this is.
        devices: how many CPU devices each process is to have.

    Raises:
        UsageError: if there is nothing to join, or it cannot be joined, and how it would be.
    """
    given = (coordinator, processes, process)
    if any(one is None for one in given) and any(one is not None for one in given):
        raise UsageError(f"worker --jax: of three options some are missing; {_HOW}")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise UsageError(f"worker --jax: process {process} of {processes}; 0 to N - 1 is meant")
    try:
        cluster = stores.of_jax(coordinator, processes, process)
    except ImportError as error:
        raise UsageError(f"worker --jax: {error.name} is not installed") from error
    except (RuntimeError, ValueError) as error:
        words = str(error).splitlines()[0]
        raise UsageError(f"worker --jax: cannot join ({words}); {_HOW}") from error
    launch = JaxLaunch(cluster.process, cluster.processes, devices, cluster.host)
    return Joined(launch, cluster.store, sharing_of(plan, launch))


def sharing_of(plan: Plan, launch: JaxLaunch) -> Sharing:
    """The checks of a plan that take several JAX processes, and which of them do not fit.

    Raises:
        UsageError: if none takes several.
    """

    def takes_processes(check: Check) -> bool:
        question = check.case.question
        if check.implementation.framework != "jax":
            return False
        return question.kind == "average" or (question.kind == "behaviour" and question.ranks > 1)

    def refusal(check: Check) -> str:
        question = check.case.question
        if question.kind == "average":
            everywhere = launch.size * launch.devices
            if question.world_size != everywhere:
                return (
                    f"{question.world_size} devices are asked for, all {everywhere} of this "
                    "launch take part"
                )
            if check.implementation.spans == "process":
                return 'its devices are those of one process (it is declared spans="process")'
            return ""
        wanted = (question.ranks, devices_of(question))
        if wanted == (launch.size, launch.devices):
            return ""
        return (
            f"{wanted[0]} processes with {wanted[1]} devices each are asked for, this launch has "
            f"{launch.size} with {launch.devices}"
        )

    return shared(
        plan,
        takes_processes,
        refusal,
        "JAX over several devices, such as gradient_mean/jax_shard_map",
    )
