"""Which devices torch has here, why it lacks others, and the settings that decide precision."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from conformance import frameworks
from conformance.core.outcomes import Unsupported
from conformance.frameworks import KINDS

# Environment variables that decide which kernels run, and at what precision.
VARIABLES = ("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
_DRIVER = Path("/proc/driver/nvidia/version")


def prepare() -> None:
    """Full precision, and the same kernels in every run."""
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = False
    matmul.allow_fp16_reduced_precision_reduction = False
    matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # quint8 cannot be filled


def precision() -> dict[str, str]:
    """The settings in force."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    settings = {
        "float32_matmul": torch.get_float32_matmul_precision(),
        "matmul_tf32": matmul.allow_tf32,
        "matmul_f16_reduced_sums": matmul.allow_fp16_reduced_precision_reduction,
        "matmul_bf16_reduced_sums": matmul.allow_bf16_reduced_precision_reduction,
        "cudnn_tf32": cudnn.allow_tf32,
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    return {name: str(value) for name, value in settings.items()}


def described() -> dict[str, str]:
    """Every device by name, in words."""
    devices = {"cpu": platform.processor() or platform.machine()}
    for kind in KINDS[1:]:
        if not missing(kind):
            devices |= {str(one): _words(one) for one in of_kind(kind)}
    return devices


def all_missing() -> dict[str, str]:
    """Why each kind that is not here is not."""
    return {kind: reason for kind in KINDS if (reason := missing(kind))}


def of_kind(kind: str) -> list[torch.device]:
    """Every device of a kind.

    Raises:
        Unsupported: if there is none; it says why.
    """
    if kind == "cpu":
        return [torch.device("cpu")]
    if reason := missing(kind):
        raise Unsupported(reason)
    return [torch.device(kind, index) for index in range(_module(kind).device_count())]


def matching_devices(device: str) -> list[torch.device]:
    """Every device of a kind, or the one that is named with its index.

    Raises:
        Unsupported: if there is none; it says why.
    """
    return frameworks.matching_devices("torch", device, of_kind)


def choose(device: torch.device) -> None:
    """Make a device this process's current one: `cuda` means it from now on."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


@cache
def missing(kind: str) -> str:
    """Why torch has no device of a kind here; empty where it has."""
    torch_here = f"torch {torch.__version__}"
    match kind:
        case "cpu":
            return ""
        case "cuda" if not torch.backends.cuda.is_built():
            return f"{torch_here} is built without CUDA"
        case "mps" if not torch.backends.mps.is_built():
            return f"{torch_here} is built without MPS"
        case "cuda" | "mps":
            return _unusable(kind)
        case _:
            return f"{torch_here} has no {kind} of its own"


def _unusable(kind: str) -> str:
    """Why a device that torch is built for cannot be used: its driver is asked to start."""
    module = _module(kind)
    try:
        if kind == "cuda":
            module.init()
        count = module.device_count()
        if count:
            torch.zeros(1, device=kind)
    except Exception as error:  # noqa: BLE001 - a driver fails in whatever way it likes
        words = shorten(str(error) or type(error).__name__, 160, placeholder=" …")
        return f"torch cannot start {kind}: {words}"
    return "" if count else f"torch sees no {kind} device"


def _module(kind: str) -> Any:
    return torch.get_device_module(kind)


def _words(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    told = torch.cuda.get_device_properties(device)
    parts = [
        told.name,
        f"{told.total_memory / 2**30:.1f} GiB",
        f"compute capability {told.major}.{told.minor}",
        *_versions(),
    ]
    return ", ".join(parts)


def _versions() -> Iterator[str]:
    if driver := driver_version():
        yield f"driver {driver}"
    if runtime := torch.version.cuda or torch.version.hip:
        yield f"runtime {runtime}"


@cache
def driver_version() -> str:
    """The version of NVIDIA's driver; empty where nothing tells it."""
    try:
        told = _DRIVER.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"Kernel Module.*?\s(\d+(\.\d+)+)\s", told):
            return found[1]
    except OSError:
        pass
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0].strip()
