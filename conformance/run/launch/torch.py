"""The ranks that torchrun started."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from conformance.core.checks import Check
from conformance.core.outcomes import UsageError
from conformance.processes import TorchAddress, TorchNode, World
from conformance.run.launch import stores
from conformance.run.launch.bus import Bus
from conformance.run.launch.ranks import Joined
from conformance.run.launch.sharing import CutShortError, Sharing, shared
from conformance.run.plan import Plan

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class TorchLaunch:
    """A process of torchrun, as its environment describes it."""

    rank: int
    size: int
    address: str
    sizes: tuple[int, ...] = ()
    engine: str = "torchrun"

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> "TorchLaunch":
        """Reads the launch of this process.

        Raises:
            UsageError: if this process is of no launch; the message says how to start one.
        """
        missing = [name for name in _NEEDED if name not in environment]
        if missing:
            raise UsageError(
                f"worker: this process is not of a launch ({', '.join(missing)} not set); start "
                "it by torchrun --nnodes 2 --nproc-per-node 2 … -m conformance worker, or say "
                "--jax where JAX starts it; `conformance run` needs no launch"
            )
        values = {name: environment[name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")}
        odd = next(
            (name for name, value in values.items() if not re.fullmatch("[0-9]{1,9}", value)), None
        )
        if odd is not None:
            raise UsageError(f"worker: {odd} is {values[odd]!r}; a number is meant")
        host, port = environment["MASTER_ADDR"], environment["MASTER_PORT"]
        return cls(int(values["RANK"]), int(values["WORLD_SIZE"]), f"{host}:{port}")

    def takes_part(self, check: Check) -> int:
        """Returns W of the question."""
        return check.ranks

    def joined(self, generation: int, bus: Bus, environment: Mapping[str, str]) -> World:
        """Makes a rank of a gloo group over the launch's own store."""
        del bus
        key = f"conformance/ranks/{generation}"
        groups = sorted({*self.sizes, self.size})
        address = TorchAddress(self.rank, self.size, self.address, groups, key)
        return TorchNode(address, "conformance.frameworks:prepare_torch", environment)


def joined(plan: Plan) -> Joined:
    """Joins this process's launch, for the checks of a plan that need ranks.

    Raises:
        UsageError: if there is no launch, or no check needs ranks.
        CutShortError: if the launch cannot be joined.
    """
    launch = TorchLaunch.here()
    sharing = sharing_of(plan, launch.size)
    sizes = {check.ranks for check in sharing.plan.checks if check.id not in sharing.refused}
    launch = replace(launch, sizes=tuple(sorted(sizes)))
    try:
        return Joined(launch, stores.of_torchrun(), sharing)
    except (RuntimeError, ValueError) as error:
        words = str(error).splitlines()[0]
        raise CutShortError(f"no store at {launch.address}: {words}") from error


def sharing_of(plan: Plan, size: int) -> Sharing:
    """Returns the checks of a plan that need ranks, and which need more than this launch has.

    Raises:
        UsageError: if no check needs ranks.
    """

    def refusal(check: Check) -> str:
        if check.ranks <= size:
            return ""
        return f"{check.ranks} ranks are asked for, this launch has {size}"

    return shared(
        plan,
        lambda check: check.implementation.runs == "per_rank",
        refusal,
        "an implementation that runs per rank, such as gradient_mean/torch_ddp",
    )
