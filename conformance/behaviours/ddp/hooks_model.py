"""A model of DistributedDataParallel's communication hooks."""

import ml_dtypes
import numpy as np

from conformance.behaviours.ddp import parts_model as ddp_parts
from conformance.behaviours.ddp.parts_model import (
    Rows,
    added_in_any_order,
    exactly,
    on_every_rank,
    refused,
)


def allreduce(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Divides each gradient by W, and then adds."""
    own = np.array(gradients, np.float64)
    return {
        "gradient": added_in_any_order(own / len(own)),
        "says_the_same": np.array(True),
    }


def summing(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Shows the hook each rank's own gradients, and keeps what the hook leaves."""
    own = np.array(gradients, np.float64)
    return {
        "shown": exactly(own),
        "gradients": exactly(on_every_rank(own.sum(0), len(own))),
    }


def second(*, first_builtin: bool, second_builtin: bool) -> dict[str, np.ndarray]:
    """Refuses, of whatever kinds the two hooks are."""
    del first_builtin, second_builtin
    return refused("RuntimeError")


def fp16(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Casts, then divides, then adds, all in f16."""
    with np.errstate(over="ignore", under="ignore"):
        own = np.array(gradients, np.float32).astype(np.float16)
        shares = own / np.float16(len(own))
        total = added_in_any_order(shares).astype(np.float32)
    return {"gradients": on_every_rank(total, len(own))}


def bf16_refused(*, wrapped: bool) -> dict[str, np.ndarray]:
    """Refuses, with a hook inside or alone."""
    del wrapped
    return refused("TypeError")


def bf16_renamed(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Averages data that bf16 holds."""
    own = np.array(gradients)
    if not np.array_equal(own.astype(ml_dtypes.bfloat16).astype(np.float64), own):
        raise ValueError(f"bf16 does not hold {own.tolist()}")
    return {"gradients": ddp_parts.mean(gradients)}
