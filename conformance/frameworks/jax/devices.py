"""JAX's devices on this machine, why it lacks others, and the settings that decide precision."""

import os
from functools import cache
from textwrap import shorten
from typing import Any

import jax

from conformance import frameworks
from conformance.core.outcomes import Unsupported
from conformance.frameworks import KINDS

# JAX's own names of kinds; its other names are the common ones.
_PLATFORMS = {"cuda": "gpu"}
VARIABLES = ("XLA_FLAGS", "XLA_PYTHON_CLIENT_PREALLOCATE", "NVIDIA_TF32_OVERRIDE")


def prepare() -> None:
    """Sets full precision, and makes the host eight devices."""
    jax.config.update("jax_num_cpu_devices", 8)
    # JAX was imported before the folder of the caches was known, and reads these when imported.
    if folder := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        seconds = os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", float(seconds))
    full_precision()


def full_precision() -> None:
    """Turns 64-bit types on, and sets products of matrices to full precision."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")


def precision() -> dict[str, str]:
    """Returns the settings in force."""
    return {
        "jax_enable_x64": str(jax.config.jax_enable_x64),
        "jax_default_matmul_precision": str(jax.config.jax_default_matmul_precision),
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def described() -> dict[str, str]:
    """Describes every device, by name."""
    return {
        f"{kind}:{index}": _words(device)
        for kind in KINDS
        if not missing(kind)
        for index, device in enumerate(of_kind(kind))
    }


def all_missing() -> dict[str, str]:
    """Returns the reason for each kind of device that is missing."""
    return {kind: reason for kind in KINDS if (reason := missing(kind))}


def of_kind(kind: str) -> list[Any]:
    """Returns every device of a kind.

    Raises:
        Unsupported: if there is none; the message says why.
    """
    if reason := missing(kind):
        raise Unsupported(reason)
    return list(jax.devices(_PLATFORMS.get(kind, kind)))


def matching_devices(device: str) -> list[Any]:
    """Returns every device of a kind, or the device that is named with its index.

    Raises:
        Unsupported: if there is none; the message says why.
    """
    return frameworks.matching_devices("jax", device, of_kind)


def first(device: str, count: int, needed: int) -> list[Any]:
    """Returns so many of a kind's devices, or as many as there are.

    Raises:
        Unsupported: if there are fewer than are needed.
    """
    devices = matching_devices(device)[:count]
    if len(devices) < needed:
        raise Unsupported(f"{needed} devices are asked for, {len(devices)} are here")
    return devices


@cache
def missing(kind: str) -> str:
    """Returns the reason why JAX has no device of a kind, or an empty text where it has."""
    try:
        jax.devices(_PLATFORMS.get(kind, kind))
    except Exception as error:  # noqa: BLE001 - A driver may fail with any exception.
        words = shorten(str(error) or type(error).__name__, 160, placeholder=" …")
        return f"jax {jax.__version__} has no {kind} here: {words}"
    return ""


def _words(device: Any) -> str:
    parts = [device.device_kind]
    if limit := (_memory(device) or {}).get("bytes_limit"):
        parts.append(f"{limit / 2**30:.1f} GiB")
    if capability := getattr(device, "compute_capability", None):
        parts.append(f"compute capability {capability}")
    if device.platform != "cpu":
        parts.append(" ".join(device.client.platform_version.split()))
    return ", ".join(parts)


def _memory(device: Any) -> dict[str, int] | None:
    try:
        statistics: dict[str, int] | None = device.memory_stats()
    except Exception:  # noqa: BLE001 - A platform without counters may raise anything.
        return None
    return statistics
