"""What DistributedDataParallel leaves in `.grad`: the mean over the ranks, and how it rounds."""

import math
from collections.abc import Sequence

import numpy as np

from conformance.behaviours.ddp import parts_model as ddp_parts
from conformance.behaviours.ddp.parts_model import Rows, added_in_any_order, exactly
from conformance.core.dtypes import text


def mean(*, gradients: Rows) -> dict[str, np.ndarray]:
    """The sum over the ranks, divided by their number."""
    return {"gradients": ddp_parts.mean(gradients)}


def same_bits(*, features: int, bucket_cap_mb: float = 25.0) -> dict[str, np.ndarray]:
    """Of three parameters, whatever their size and however they are put in buckets."""
    del features, bucket_cap_mb
    return {"own_agree": np.zeros(3, bool), "averaged_agree": np.ones(3, bool)}


def unequal_shards(
    *, shards: Sequence[Sequence[float]], reduction: str = "mean"
) -> dict[str, np.ndarray]:
    """Each rank reduces its shard; then ranks are averaged."""
    reduce = np.mean if reduction == "mean" else np.sum
    own = [float(reduce(shard)) for shard in shards]
    return {"gradient": exactly([sum(own) / len(own)])}


def scaling(*, gradients: Rows, path: str, steps: int) -> dict[str, np.ndarray]:
    """Each gradient is multiplied by the rounded 1/W, or divided by W, and then they are added."""
    own = np.array(gradients, np.float64)
    multiplied = added_in_any_order(own * (1 / len(own)))
    divided = added_in_any_order(own / len(own))
    held = []
    for step in range(steps):
        # `.grad` is a view of the bucket once the first step has made it one, and while it lives.
        is_a_view = path == "bucket-view-zeroed" and step > 0
        divides = is_a_view or path.startswith(("batched-copy", "builtin-hook"))
        held.append(divided if divides else multiplied)
    return {"gradients": np.stack(held)}


def tied(*, uses: Rows) -> dict[str, np.ndarray]:
    """One parameter, whose gradient on a rank is the sum over its uses there."""
    return {
        "parameters": np.array(1),
        "gradients": ddp_parts.mean(np.array(uses).sum(1, keepdims=True)),
        "same_gradient": np.array(True),
    }


def repeated_steps(
    *, features: int, steps: int, rounds: bool, world_size: int
) -> dict[str, np.ndarray]:
    """From the second step on the order of addition stays; of two numbers there is only one."""
    del features
    answers = {"repeats_second": np.ones(steps - 1, bool)}
    if not rounds or world_size == 2:
        answers["repeats_first"] = np.ones(steps, bool)
    return answers


def bucket_orders(*, used: str, steps: int) -> dict[str, np.ndarray]:
    """First as registered, here by the alphabet; then as gradients come, the last used first."""
    return {"orders": text(" ".join(["".join(sorted(used))] + [used[::-1]] * (steps - 1)))}


def subgroup(*, gradients: Rows) -> dict[str, np.ndarray]:
    """The mean over the group alone."""
    return mean(gradients=gradients)


def default_group(*, gradients: Rows) -> dict[str, np.ndarray]:
    """The mean over all."""
    return {"is_the_world": np.array(True), **mean(gradients=gradients)}


def default_is_the_world() -> dict[str, np.ndarray]:
    """All ranks there are."""
    return {"is_the_world": np.array(True)}


def nodes(*, gradients: Rows, nodes: Sequence[int]) -> dict[str, np.ndarray]:
    """The mean over the ranks, wherever they are."""
    del nodes
    return mean(gradients=gradients)


def orders(*, gradients: Rows) -> dict[str, np.ndarray]:
    """The same mean each time, which must not round."""
    ranks = len(gradients)
    added_in_any_order(np.array(gradients, np.float32))
    one = ddp_parts.mean(gradients)[0]
    return {"gradients": np.stack([one] * (1 + math.factorial(ranks)))}
