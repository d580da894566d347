"""A model of JAX's arrays: batches on several devices, keys, donated arrays, 64 bits."""

import numpy as np

from conformance.behaviours.jax.cases import multiples
from conformance.core.dtypes import text

Answers = dict[str, np.ndarray]
_MODES = ("pmap", "checked", "unchecked")


def _refused(name: str, kind: str) -> Answers:
    return {f"{name}/raised": text(kind), f"{name}/says": np.array(True)}


def _mean(count: int) -> np.ndarray:
    """Returns the gradient of the mean over all samples, which the count divides exactly."""
    return (multiples(count) / np.float32(count)).sum(axis=0)


def sharded_batch(*, devices: int, count: int) -> Answers:
    """Averages over all samples, however the batch is sharded (J11)."""
    assert count % devices == 0
    return dict.fromkeys(("device_put", "in_shardings", "constraint"), _mean(count))


def indivisible_batch(*, devices: int, count: int) -> Answers:
    """Refuses an indivisible batch, except for a constraint inside jit (J11)."""
    assert count % devices
    answers = {"constraint": _mean(count)}
    for name in ("device_put", "in_shardings", "constraint-outside-jit"):
        answers |= _refused(name, "IndivisibleError")
    return answers


def same_key(*, devices: int) -> Answers:
    """Draws equal noise from an equal key, and different noise with the index folded in (J12)."""
    answers: Answers = {}
    for mode in _MODES:
        answers[f"same/{mode}/different"] = np.array(1)
        answers[f"folded/{mode}/different"] = np.array(devices)
        answers[f"folded/{mode}/as-outside"] = np.ones(devices, dtype=bool)
    return answers


def donated(*, devices: int) -> Answers:
    """Deletes a donated array (J13)."""
    array = multiples(devices)
    return {
        "output": array + 1,
        "donated/deleted": np.array(True),
        "kept/deleted": np.array(False),
        "kept": array,
        **_refused("computing", "RuntimeError"),
        **_refused("reading", "RuntimeError"),
    }


def donated_in_vain() -> Answers:
    """Keeps an array whose memory no output can take, and warns (J13)."""
    array = multiples(4)
    return {
        "output": array.sum(axis=0),
        "donated/deleted": np.array(False),
        "donated": array,
        "warned": text("UserWarning"),
        "says": np.array([True]),
    }


def without_x64(*, dtype: str) -> Answers:
    """Rounds an f64 to the nearest f32, and keeps the lower half of an i64 (J14)."""
    wide, narrow = _rounded() if dtype == "f64" else _cut()
    answers: Answers = {}
    for name in ("asarray", "device_put", "python-type", "named"):
        warns = name == "named"
        answers |= {
            name: narrow,
            f"{name}/warned": text("UserWarning" if warns else "silence"),
            f"{name}/says": np.ones(int(warns), dtype=bool),
            f"{name}/x64": wide,
            f"{name}/x64/warned": text("silence"),
            f"{name}/x64/says": np.ones(0, dtype=bool),
        }
    return answers


def _rounded() -> tuple[np.ndarray, np.ndarray]:
    wide = np.array([1 + 2**-40, 2**31 + 1, -3], dtype=np.float64)
    return wide, wide.astype(np.float32)


def _cut() -> tuple[np.ndarray, np.ndarray]:
    wide = np.array([2**33, 2**33 + 5, -7], dtype=np.int64)
    return wide, (wide & 0xFFFF_FFFF).astype(np.uint32).view(np.int32)


def without_x64_python_int() -> Answers:
    """Refuses a Python int that 32 bits do not hold (J14)."""
    return {
        "raised": text("OverflowError"),
        "says": np.array(True),
        "x64": np.array([2**33]),
    }
