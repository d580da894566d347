"""A model of calls by which DistributedDataParallel does or does not average."""

from collections.abc import Sequence

import numpy as np

from conformance.behaviours.ddp.parts_model import (
    NO_GRADIENT,
    Rows,
    exactly,
    mean,
    on_every_rank,
    refused,
)
from conformance.core.dtypes import text


def no_sync(*, gradients: Rows, inside: Sequence[str]) -> dict[str, np.ndarray]:
    """Averages, except where the forward is inside the context manager."""
    return {"gradients": exactly(np.array(gradients)) if "forward" in inside else mean(gradients)}


def micro_batches(*, batches: Sequence[Sequence[Sequence[float]]]) -> dict[str, np.ndarray]:
    """Averages over the ranks the sum over the micro-batches of their means."""
    own = [[sum(float(np.mean(batch)) for batch in rank)] for rank in batches]
    return {"gradients": mean(own)}


def past_the_wrapper(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Leaves each rank its own gradient, without a warning."""
    return {"gradients": exactly(np.array(gradients)), "warnings": np.array(0)}


def autograd_grad(*, gradients: Rows, after_backward: bool) -> dict[str, np.ndarray]:
    """Returns each rank's own gradient; `.grad` stays what an earlier backward left."""
    nothing = on_every_rank(NO_GRADIENT, len(gradients))
    return {
        "returned": exactly(np.array(gradients)),
        "held": mean(gradients) if after_backward else nothing,
    }


def unused(*, gradients: Sequence[float]) -> dict[str, np.ndarray]:
    """Waits with the bucket for b, so that a is never averaged; the next forward raises."""
    return {
        "warnings": np.array(0),
        "used": exactly(np.array(gradients)[:, None]),
        "unused": on_every_rank(NO_GRADIENT, len(gradients)),
        **refused("RuntimeError"),
    }


def find_unused(
    *, gradients: Sequence[float], user: int, old: float | None = None
) -> dict[str, np.ndarray]:
    """Averages, counting zero for a rank that did not use a parameter; c keeps its gradient."""
    own = np.array(gradients)[:, None]
    unchanged = NO_GRADIENT if old is None else exactly([old])
    used = (np.arange(len(own)) == user)[:, None]
    return {"a": mean(own), "b": mean(own * used), "c": on_every_rank(unchanged, len(own))}


def static_graph(
    *, gradients: Sequence[float], steps: Sequence[str], stops: int
) -> dict[str, np.ndarray]:
    """Takes the parameters of the first step for the parameters of all.

    A step that uses more raises in its backward. A step that uses less waits for the rest: its
    gradients are not averaged, and the next forward raises.

    Raises:
        ValueError: if such steps do not stop at `stops`.
    """
    own = np.array(gradients)[:, None]
    nothing = on_every_rank(NO_GRADIENT, len(own))
    answers: dict[str, np.ndarray] = {}
    waiting = False
    for step, used in enumerate(steps):
        more = bool(set(used) - set(steps[0]))
        if (waiting or more) != (step == stops):
            raise ValueError(f"these steps do not stop at step {stops}")
        if waiting or more:
            where = "forward" if waiting else "backward"
            return {**answers, "where": text(where), **refused("RuntimeError")}
        waiting = bool(set(steps[0]) - set(used))
        for name in "ab":
            values = exactly(own) if waiting else mean(own)
            answers[f"step{step}/{name}"] = values if name in used else nothing
    return answers
