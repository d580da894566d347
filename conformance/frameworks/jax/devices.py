"""Which devices JAX has here, why it lacks others, and the settings that decide precision."""

import os
from functools import cache
from textwrap import shorten
from typing import Any

import jax

from conformance import frameworks
from conformance.core.outcomes import Unsupported
from conformance.frameworks import KINDS

# What JAX calls a kind of device; others it calls as everybody does.
_PLATFORMS = {"cuda": "gpu"}
VARIABLES = ("XLA_FLAGS", "XLA_PYTHON_CLIENT_PREALLOCATE", "NVIDIA_TF32_OVERRIDE")


def prepare() -> None:
    """Full precision, and the host as eight devices."""
    jax.config.update("jax_num_cpu_devices", 8)
    full_precision()


def full_precision() -> None:
    """64-bit types on, and products of matrices at full precision."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")


def precision() -> dict[str, str]:
    """The settings in force."""
    return {
        "jax_enable_x64": str(jax.config.jax_enable_x64),
        "jax_default_matmul_precision": str(jax.config.jax_default_matmul_precision),
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def described() -> dict[str, str]:
    """Every device by name, in words."""
    return {
        f"{kind}:{index}": _words(device)
        for kind in KINDS
        if not missing(kind)
        for index, device in enumerate(of_kind(kind))
    }


def all_missing() -> dict[str, str]:
    """Why each kind that is not here is not."""
    return {kind: reason for kind in KINDS if (reason := missing(kind))}


def of_kind(kind: str) -> list[Any]:
    """Every device of a kind.

    Raises:
        Unsupported: if there is none; it says why.
    """
    if reason := missing(kind):
        raise Unsupported(reason)
    return list(jax.devices(_PLATFORMS.get(kind, kind)))


def matching_devices(device: str) -> list[Any]:
    """Every device of a kind, or the one that is named with its index.

    Raises:
        Unsupported: if there is none; it says why.
    """
    return frameworks.matching_devices("jax", device, of_kind)


def first(device: str, count: int, needed: int) -> list[Any]:
    """So many of a kind's devices, or as many as there are.

    Raises:
        Unsupported: if there are fewer than are needed.
    """
    here = matching_devices(device)[:count]
    if len(here) < needed:
        raise Unsupported(f"{needed} devices are asked for, {len(here)} are here")
    return here


@cache
def missing(kind: str) -> str:
    """Why JAX has no device of a kind here; empty where it has."""
    try:
        jax.devices(_PLATFORMS.get(kind, kind))
    except Exception as error:  # noqa: BLE001 - a driver fails in whatever way it likes
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
        told: dict[str, int] | None = device.memory_stats()
    except Exception:  # noqa: BLE001 - a platform that counts nothing says so in its own way
        return None
    return told
