"""Asks checks one at a time, in worlds of its own, and judges the answers."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from conformance.arithmetic.system import Bits, Uncertain
from conformance.asking import Ask
from conformance.behaviours.jax.processes_cases import devices_of
from conformance.core.checks import Check
from conformance.core.outcomes import Outcome
from conformance.core.questions import AnyCase
from conformance.core.versions import refusal
from conformance.frameworks import Description, is_installed
from conformance.judge import Known, Verdict, judge
from conformance.processes import JaxProcesses, LocalWorld, Task, TorchRanks, World
from conformance.run.devices import NOWHERE, Machine
from conformance.run.goldens import Golden, at_precision, make

# What the first process of a world imports once, and its successors find imported.
_PRELOAD = {
    "torch": ("torch", "conformance.asking", "conformance.frameworks.torch.bridge"),
    "jax": ("jax", "conformance.asking", "conformance.frameworks.jax.bridge", "flax"),
    "numpy": ("conformance.asking", "conformance.frameworks.numpy.bridge"),
}
TIMEOUT = 120.0
MOST_RANKS = 8


class Answers(Protocol):
    """Where the right answers are."""

    def of(self, case: AnyCase) -> Golden:
        """The inputs and the right answer of a case."""
        ...


class Examiner:
    """Worlds, made when first needed and kept; not to be shared between threads."""

    def __init__(
        self,
        goldens: Answers,
        known: Sequence[Known] = (),
        timeout: float = TIMEOUT,
        cache: Path | None = None,
        machine: Machine = NOWHERE,
    ) -> None:
        """Start nothing yet.

        Args:
            goldens: the right answers.
            known: differences that do not count.
            timeout: seconds that one check may take.
            cache: a folder for compiled code; the frameworks' own choice where there is none.
            machine: what is known of the devices: checks on those that it lacks are unsupported,
                and its precision widens bounds.
        """
        self._machine = machine
        self._goldens, self._known, self._timeout = goldens, known, timeout
        self._environment = environment_of(cache)
        self._worlds: dict[str, World] = {}

    def examine(self, check: Check) -> tuple[Verdict, float]:
        """The verdict on a check, and the seconds that its implementation took to answer."""
        if reason := self._lack(check):
            return Verdict("unsupported", reason), 0.0
        golden = self._goldens.of(check.case)
        try:
            golden = at_precision(check.case, golden, self._matmul_bits(check))
        except Uncertain as error:
            return Verdict("not-exercised", self._too_coarse(check, error)), 0.0
        inputs = golden.inputs or make(check.case).inputs
        started = time.perf_counter()
        outcomes = self._ask(check, inputs)
        seconds = time.perf_counter() - started
        return judge(check, golden, outcomes, self._known), seconds

    def _lack(self, check: Check) -> str:
        """Why a check cannot be asked here; empty where it can."""
        framework = check.implementation.framework
        if not is_installed(framework):
            return f"{framework} is not installed"
        return self._machine.lacks(framework, check.device) or refusal(check)

    def _matmul_bits(self, check: Check) -> Bits | None:
        dtype = getattr(check.case.question, "dtype", "")
        return self._machine.matmul_bits(check.implementation.framework, check.device, dtype)

    def _too_coarse(self, check: Check, error: Uncertain) -> str:
        return (
            f"products of matrices keep {self._matmul_bits(check)} bits on {check.device}, which "
            f"leaves {error} uncertain: there is no bound"
        )

    def _ask(self, check: Check, inputs: Mapping[str, np.ndarray]) -> list[Outcome]:
        ask: Ask[Any] = Ask(check.implementation, check.case.question, inputs, check.device)
        task = Task("conformance.asking:ask", ask, check.ranks)
        return self._world(world_of(check)).run(task, self._timeout)

    def look_around(self, frameworks: Iterable[str]) -> Machine:
        """What these frameworks say of themselves and of this machine, and keep it in mind.

        One that is not installed, or does not start, says nothing.
        """
        described = {}
        for framework in filter(is_installed, frameworks):
            task = Task("conformance.asking:describe", framework)
            [outcome] = self._world(framework).run(task, max(self._timeout, TIMEOUT))
            if isinstance(outcome, Description):
                described[framework] = outcome
        self._machine = Machine(described)
        return self._machine

    def close(self) -> None:
        """End the worlds; a question asked meanwhile in another thread comes back as a crash."""
        for world in self._worlds.values():
            world.close()

    def keep_only(self, world: str) -> None:
        """End the worlds of other names than this: eight ranks are not kept in idleness."""
        for name in [name for name in self._worlds if name != world]:
            self._worlds.pop(name).close()

    def _world(self, name: str) -> World:
        if name not in self._worlds:
            kind, _, device = name.partition("@")
            prepare = f"conformance.asking:prepare_{kind.partition('-')[0]}"
            match kind:
                case "torch-ranks":
                    world: World = TorchRanks(
                        MOST_RANKS, prepare, self._environment, device or "cpu"
                    )
                case _ if name.startswith(PROCESSES):
                    # Its processes say themselves how many devices they have, before all else.
                    devices = int(kind.removeprefix(PROCESSES))
                    world = JaxProcesses(devices=devices, environment=self._environment)
                case _:
                    world = LocalWorld(_PRELOAD[name], prepare, self._environment)
            self._worlds[name] = world
        return self._worlds[name]


RANKS, PROCESSES = "torch-ranks", "jax-processes-"


def takes_ranks(check: Check) -> bool:
    """Whether a check is asked of torch ranks."""
    return check.implementation.runs == "per_rank"


def world_of(check: Check) -> str:
    """The name of the world in which a check is asked; ranks on GPUs are joined in another way."""
    if takes_ranks(check):
        return RANKS if check.device == "cpu" else f"{RANKS}@{check.device}"
    if check.implementation.framework == "jax" and check.ranks > 1:
        return f"{PROCESSES}{devices_of(check.case.question)}"
    return check.implementation.framework


def environment_of(cache: Path | None) -> dict[str, str]:
    """What the worlds set, where the user has not: quiet frameworks that share; and caches."""
    environment = {
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # torch and JAX share a GPU: JAX would take three quarters of it at its first array.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # Whether there is a GPU is asked without CUDA, which a forked process could not use again.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what torch's deterministic algorithms need
    }
    if cache is not None:
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
        environment["TRITON_CACHE_DIR"] = str(cache / "triton")
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache / "xla")
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return {name: os.environ.get(name, value) for name, value in environment.items()}
