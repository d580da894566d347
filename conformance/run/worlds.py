"""The worlds in which checks are asked: which of them, with what imported, in what environment."""

import os
from pathlib import Path

from conformance.behaviours.jax.processes_cases import devices_of
from conformance.core.checks import Check
from conformance.core.implementations import is_outside
from conformance.processes import JaxProcesses, LocalWorld, TorchRanks, World
from conformance.run import caches

# The fork server imports these once, and every process that it forks finds them imported.
PRELOAD = {
    "torch": ("torch", "conformance.subjects", "conformance.frameworks.torch.bridge"),
    "jax": ("jax", "conformance.subjects", "conformance.frameworks.jax.bridge", "flax"),
    "numpy": ("conformance.subjects", "conformance.frameworks.numpy.bridge"),
}
MOST_RANKS = 8
RANKS, PROCESSES, _OF = "torch-ranks", "jax-processes-", " of "


def takes_ranks(check: Check) -> bool:
    """Says whether a check is asked of torch ranks."""
    return check.implementation.runs == "per_rank"


def world_of(check: Check) -> str:
    """Names the world in which a check is asked.

    Ranks on GPUs are joined in another way than on the CPU. Each file from outside has a world of
    its own, so that what it does to its processes changes nobody else's answers.
    """
    implementation = check.implementation
    if takes_ranks(check):
        kind = RANKS if check.device == "cpu" else f"{RANKS}@{check.device}"
    elif implementation.framework == "jax" and check.ranks > 1:
        kind = f"{PROCESSES}{devices_of(check.case.question)}"
    else:
        kind = implementation.framework
    return f"{kind}{_OF}{implementation.origin}" if is_outside(implementation) else kind


def is_for_outside(world: str) -> bool:
    """Says whether a world of this name is for a file from outside."""
    return _OF in world


def world_named(name: str, cache: Path | None) -> World:
    """Makes the world of a name that `world_of` gave.

    Args:
        name: the name.
        cache: a folder for compiled code; the frameworks' own choice where there is none.
    """
    kind, _, device = name.partition(_OF)[0].partition("@")
    prepare = f"conformance.frameworks:prepare_{kind.partition('-')[0]}"
    environment, is_alone = environment_of(cache), is_for_outside(name)
    # Adapters are declared before the report's folder is known: so that all use one fork server,
    # the folder of the caches is only told to the processes that it forks.
    shared = environment_of(None)
    if kind == RANKS:
        return TorchRanks(
            MOST_RANKS, prepare, shared, device or "cpu",
            preload=PRELOAD["torch"], late=environment, is_alone=is_alone,
        )  # fmt: skip
    if kind.startswith(PROCESSES):
        # Its processes set their number of devices before anything else.
        devices = int(kind.removeprefix(PROCESSES))
        return JaxProcesses(
            devices=devices, environment=shared,
            preload=PRELOAD["jax"], late=environment, is_alone=is_alone,
        )  # fmt: skip
    return LocalWorld(PRELOAD[kind], prepare, shared, late=environment, is_alone=is_alone)


def environment_of(cache: Path | None) -> dict[str, str]:
    """Returns what is set where the user has not: quiet frameworks that share, and caches."""
    environment = {
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # torch and JAX share a GPU: JAX would take three quarters of it at its first array.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # Whether there is a GPU is asked without CUDA, which a forked process could not use again.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        # torch's deterministic algorithms need it.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    # torch makes this folder when it is imported, beside everybody's temporary files if not told.
    environment["TORCHINDUCTOR_CACHE_DIR"] = str((cache or caches.folder()) / "inductor")
    if cache is not None:
        environment["TRITON_CACHE_DIR"] = str(cache / "triton")
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache / "xla")
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    return {name: os.environ.get(name, value) for name, value in environment.items()}
