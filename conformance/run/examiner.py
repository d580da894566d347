"""Asks checks one at a time, in processes of their own, and judges the answers."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from conformance.arithmetic.system import Uncertain
from conformance.behaviours.jax.processes_cases import devices_of
from conformance.core.ask import Ask
from conformance.core.checks import Check
from conformance.core.comparison import Arrays
from conformance.core.formats import Bits
from conformance.core.golden import Golden
from conformance.core.outcomes import Outcome
from conformance.core.questions import AnyCase
from conformance.core.verdict import Verdict
from conformance.core.versions import refusal
from conformance.frameworks import Description, is_installed
from conformance.gradient_mean.solve import at_precision
from conformance.processes import JaxProcesses, LocalWorld, Task, TorchRanks, World
from conformance.run.devices import NOWHERE, Machine
from conformance.run.known import Known
from conformance.run.verdict import judge
from conformance.subjects import solve

# The fork server imports these once, and every process that it forks finds them imported.
_PRELOAD = {
    "torch": ("torch", "conformance.subjects", "conformance.frameworks.torch.bridge"),
    "jax": ("jax", "conformance.subjects", "conformance.frameworks.jax.bridge", "flax"),
    "numpy": ("conformance.subjects", "conformance.frameworks.numpy.bridge"),
}
TIMEOUT = 120.0
MOST_RANKS = 8


class Goldens(Protocol):
    """The source of the right answers."""

    def of(self, case: AnyCase) -> Golden:
        """Returns the inputs and the right answer of a case."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A check that can be asked, with its inputs and its right answer.

    Attributes:
        check: the check.
        golden: the right answer, with the bounds that hold on the check's device.
        inputs: the input tensors, also where the golden consists of hashes alone.
    """

    check: Check
    golden: Golden
    inputs: Arrays

    @property
    def limit(self) -> int:
        """How many bytes an answer may have: many times the right one, so that most are judged."""
        arrays = (*self.inputs.values(), *self.golden.answers.values())
        return (1 << 20) + 16 * sum(array.nbytes for array in arrays)

    @property
    def ask(self) -> Ask[Any]:
        """Returns the question as it is sent to a rank's process."""
        check = self.check
        return Ask(check.implementation, check.case.question, self.inputs, check.device)


class Examiner:
    """An examiner, which asks checks in processes that it keeps; for one thread alone."""

    def __init__(
        self,
        goldens: Goldens,
        known: Sequence[Known] = (),
        timeout: float = TIMEOUT,
        cache: Path | None = None,
        machine: Machine = NOWHERE,
    ) -> None:
        """Starts no process; the first `examine` does.

        Args:
            goldens: the right answers.
            known: differences that do not count.
            timeout: seconds that one check may take.
            cache: a folder for compiled code; by default the frameworks choose one.
            machine: the devices: checks on missing devices are unsupported, and the measured
                precision widens bounds.
        """
        self._machine = machine
        self._goldens, self._known, self._timeout = goldens, known, timeout
        self._environment = environment_of(cache)
        self._worlds: dict[str, World] = {}

    def examine(self, check: Check) -> tuple[Verdict, float]:
        """Returns the verdict on a check, and the seconds that its implementation took."""
        prepared = self.prepare(check)
        if isinstance(prepared, Verdict):
            return prepared, 0.0
        started = time.perf_counter()
        task = Task("conformance.subjects:ask", prepared.ask, check.ranks, prepared.limit)
        outcomes = self._world(world_of(check)).run(task, self._timeout)
        seconds = time.perf_counter() - started
        return self.judge(prepared, outcomes), seconds

    def prepare(self, check: Check) -> Prepared | Verdict:
        """Returns the check with its inputs and golden, or a verdict where it cannot be asked."""
        framework, device = check.implementation.framework, check.device
        reason = "" if is_installed(framework) else f"{framework} is not installed"
        if reason := reason or self._machine.lacks(framework, device) or refusal(check):
            return Verdict("unsupported", reason)
        golden = self._goldens.of(check.case)
        bits = self._machine.matmul_bits(
            framework, device, getattr(check.case.question, "dtype", "")
        )
        try:
            golden = at_precision(check.case, golden, bits)
        except Uncertain as error:
            return Verdict(
                "not-exercised",
                f"products of matrices keep {bits} bits on {device}, which leaves {error} "
                "uncertain: there is no bound",
            )
        return Prepared(check, golden, golden.inputs or solve(check.case).inputs)

    def judge(self, prepared: Prepared, outcomes: Sequence[Outcome]) -> Verdict:
        """Returns the verdict on the outcomes of a check's ranks."""
        return judge(prepared.check, prepared.golden, outcomes, self._known)

    def look_around(self, frameworks: Iterable[str]) -> Machine:
        """Asks frameworks to describe themselves and this machine, and keeps the descriptions.

        A framework that is not installed, or does not start, has none.
        """
        described = {}
        for framework in filter(is_installed, frameworks):
            task = Task("conformance.frameworks:describe", framework, kinds=(Description, Bits))
            [outcome] = self._world(framework).run(task, max(self._timeout, TIMEOUT))
            if isinstance(outcome, Description):
                described[framework] = outcome
        self._machine = Machine(described)
        return self._machine

    def close(self) -> None:
        """Ends all processes; a check for which another thread waits becomes a crash."""
        for world in self._worlds.values():
            world.close()

    def keep_only(self, world: str) -> None:
        """Closes all other worlds: eight idle ranks hold memory."""
        for name in [name for name in self._worlds if name != world]:
            self._worlds.pop(name).close()

    def _world(self, name: str) -> World:
        if name not in self._worlds:
            kind, _, device = name.partition("@")
            prepare = f"conformance.frameworks:prepare_{kind.partition('-')[0]}"
            match kind:
                case "torch-ranks":
                    world: World = TorchRanks(
                        MOST_RANKS, prepare, self._environment, device or "cpu"
                    )
                case _ if name.startswith(PROCESSES):
                    # A JAX process must set its number of devices before it does anything else.
                    devices = int(kind.removeprefix(PROCESSES))
                    world = JaxProcesses(devices=devices, environment=self._environment)
                case _:
                    world = LocalWorld(_PRELOAD[name], prepare, self._environment)
            self._worlds[name] = world
        return self._worlds[name]


RANKS, PROCESSES = "torch-ranks", "jax-processes-"


def takes_ranks(check: Check) -> bool:
    """Says whether a check needs torch ranks."""
    return check.implementation.runs == "per_rank"


def world_of(check: Check) -> str:
    """Returns the name of a check's world; ranks on GPUs use another backend than on the CPU."""
    if takes_ranks(check):
        return RANKS if check.device == "cpu" else f"{RANKS}@{check.device}"
    if check.implementation.framework == "jax" and check.ranks > 1:
        return f"{PROCESSES}{devices_of(check.case.question)}"
    return check.implementation.framework


def environment_of(cache: Path | None) -> dict[str, str]:
    """Returns environment variables; a value that the user has set stays."""
    environment = {
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # torch and JAX share a GPU: JAX would take three quarters of it at its first array.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # torch must look for a GPU without CUDA, which a forked process could not use again.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        # torch's deterministic algorithms need this setting.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    if cache is not None:
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
        environment["TRITON_CACHE_DIR"] = str(cache / "triton")
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache / "xla")
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return {name: os.environ.get(name, value) for name, value in environment.items()}
