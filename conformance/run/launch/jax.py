"""The processes of a JAX launch: started by a cluster that JAX knows, or one by one."""

import re
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
    """A process of the launch.

    Attributes:
        rank: the rank of this process.
        size: how many processes there are.
        devices: how many CPU devices each process has.
        host: this machine, as the other machines reach it.
    """

    rank: int
    size: int
    devices: int
    host: str
    engine: str = "jax.distributed"

    def takes_part(self, check: Check) -> int:
        """Returns the number of all processes: a program of JAX runs in each."""
        del check
        return self.size

    def joined(self, generation: int, bus: Bus, environment: Mapping[str, str]) -> World:
        """Starts a process that computes, in a cluster of its own that the launch outlives."""
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
    """Joins the launch, by `jax.distributed.initialize`.

    Args:
        plan: the plan, of which the checks for several processes are asked.
        coordinator: host:port of process 0; this and the next two are None where JAX knows its
            cluster.
        processes: how many processes there are.
        process: the number of this process.
        devices: how many CPU devices each process gets.

    Raises:
        UsageError: if there is no launch, or it cannot be joined; the message says how to join.
    """
    options = (coordinator, processes, process)
    if any(option is None for option in options) and any(option is not None for option in options):
        raise UsageError(f"worker --jax: of three options some are missing; {_HOW}")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise UsageError(f"worker --jax: process {process} of {processes}; 0 to N - 1 is meant")
    if coordinator is not None and not _is_address(coordinator):
        raise UsageError(f"worker --jax: --coordinator {coordinator!r}: HOST:PORT is meant")
    try:
        cluster = stores.of_jax(coordinator, processes, process)
    except ImportError as error:
        raise UsageError(f"worker --jax: {error.name} is not installed") from error
    except (RuntimeError, ValueError) as error:
        words = str(error).splitlines()[0]
        raise UsageError(f"worker --jax: cannot join ({words}); {_HOW}") from error
    launch = JaxLaunch(cluster.process, cluster.processes, devices, cluster.host)
    return Joined(launch, cluster.store, sharing_of(plan, launch))


def _is_address(text: str) -> bool:
    """Says whether a text is HOST:PORT, which JAX itself does not look at.

    >>> _is_address("[::1]:29501"), _is_address("host"), _is_address("host:99999")
    (True, False, False)
    """
    match = re.fullmatch(r"\S+:([0-9]{1,5})", text)
    return match is not None and 0 < int(match[1]) < 1 << 16


def sharing_of(plan: Plan, launch: JaxLaunch) -> Sharing:
    """Returns the checks of a plan that take several JAX processes, and which do not fit.

    Raises:
        UsageError: if no check takes several processes.
    """

    def takes_processes(check: Check) -> bool:
        question = check.case.question
        if check.implementation.framework != "jax":
            return False
        return question.kind == "average" or (question.kind == "behaviour" and question.ranks > 1)

    def refusal(check: Check) -> str:
        question = check.case.question
        if question.kind == "average":
            all_devices = launch.size * launch.devices
            if question.world_size != all_devices:
                return (
                    f"{question.world_size} devices are asked for, all {all_devices} of this "
                    "launch take part"
                )
            if check.implementation.spans == "process":
                return 'its devices are those of one process (it is declared spans="process")'
            return ""
        needed = (question.ranks, devices_of(question))
        if needed == (launch.size, launch.devices):
            return ""
        return (
            f"{needed[0]} processes with {needed[1]} devices each are asked for, this launch has "
            f"{launch.size} with {launch.devices}"
        )

    return shared(
        plan,
        takes_processes,
        refusal,
        "JAX over several devices, such as gradient_mean/jax_shard_map",
    )
