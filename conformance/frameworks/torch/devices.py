"""torch's devices on this machine, why it lacks others, and the settings that decide precision."""

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

# These environment variables decide which kernels run, and at what precision.
VARIABLES = ("NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
_DRIVER = Path("/proc/driver/nvidia/version")


def prepare() -> None:
    """Sets full precision, and the same kernels in every run."""
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = False
    matmul.allow_fp16_reduced_precision_reduction = False
    matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # `use_deterministic_algorithms` tells the compiler too, and imports it for that, which takes as
    # long as torch itself. The compiler reads this variable whenever it is imported.
    torch.set_deterministic_debug_mode("warn")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")
    # torch cannot fill memory of quint8.
    torch.utils.deterministic.fill_uninitialized_memory = False


def precision() -> dict[str, str]:
    """Returns the settings in force."""
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
    """Describes every device, by name."""
    devices = {"cpu": platform.processor() or platform.machine()}
    for kind in KINDS[1:]:
        if not missing(kind):
            devices |= {str(device): _words(device) for device in of_kind(kind)}
    return devices


def all_missing() -> dict[str, str]:
    """Returns the reason for each kind of device that is missing."""
    return {kind: reason for kind in KINDS if (reason := missing(kind))}


def of_kind(kind: str) -> list[torch.device]:
    """Returns every device of a kind.

    Raises:
        Unsupported: if there is none; the message says why.
    """
    if kind == "cpu":
        return [torch.device("cpu")]
    if reason := missing(kind):
        raise Unsupported(reason)
    return [torch.device(kind, index) for index in range(_module(kind).device_count())]


def matching_devices(device: str) -> list[torch.device]:
    """Returns every device of a kind, or the device that is named with its index.

    Raises:
        Unsupported: if there is none; the message says why.
    """
    return frameworks.matching_devices("torch", device, of_kind)


def choose(device: torch.device) -> None:
    """Makes a device this process's current one: `cuda` means this device from now on."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


@cache
def missing(kind: str) -> str:
    """Returns the reason why torch has no device of a kind, or an empty text where it has."""
    torch_version = f"torch {torch.__version__}"
    match kind:
        case "cpu":
            return ""
        case "cuda" if not torch.backends.cuda.is_built():
            return f"{torch_version} is built without CUDA"
        case "mps" if not torch.backends.mps.is_built():
            return f"{torch_version} is built without MPS"
        case "cuda" | "mps":
            return _unusable(kind)
        case _:
            return f"{torch_version} has no {kind} of its own"


def _unusable(kind: str) -> str:
    """Starts the driver of a kind that torch is built for, and returns why it cannot be used."""
    module = _module(kind)
    try:
        if kind == "cuda":
            module.init()
        count = module.device_count()
        if count:
            torch.zeros(1, device=kind)
    except Exception as error:  # noqa: BLE001 - A driver may fail with any exception.
        words = shorten(str(error) or type(error).__name__, 160, placeholder=" …")
        return f"torch cannot start {kind}: {words}"
    return "" if count else f"torch sees no {kind} device"


def _module(kind: str) -> Any:
    return torch.get_device_module(kind)


def _words(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    properties = torch.cuda.get_device_properties(device)
    parts = [
        properties.name,
        f"{properties.total_memory / 2**30:.1f} GiB",
        f"compute capability {properties.major}.{properties.minor}",
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
    """Returns the version of NVIDIA's driver, or an empty text where nothing shows it."""
    try:
        text = _DRIVER.read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"Kernel Module.*?\s(\d+(\.\d+)+)\s", text):
            return match[1]
    except OSError:
        pass
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        completed = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return completed.stdout.partition("\n")[0].strip()
