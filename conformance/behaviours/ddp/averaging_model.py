"""A model of DistributedDataParallel's `.grad`: the mean over the ranks, and how it rounds."""

import math
from collections.abc import Sequence

import numpy as np

from conformance.behaviours.ddp import parts_model as ddp_parts
from conformance.behaviours.ddp.parts_model import Rows, added_in_any_order, exactly
from conformance.core.dtypes import text


def mean(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Sums over the ranks, and divides by their number."""
    return {"gradients": ddp_parts.mean(gradients)}


def same_bits(*, features: int, bucket_cap_mb: float = 25.0) -> dict[str, np.ndarray]:
    """Finds equal bits of three parameters, whatever their size and buckets."""
    del features, bucket_cap_mb
    return {"own_agree": np.zeros(3, bool), "averaged_agree": np.ones(3, bool)}


def unequal_shards(
    *, shards: Sequence[Sequence[float]], reduction: str = "mean"
) -> dict[str, np.ndarray]:
    """Reduces each rank's shard, then averages the ranks."""
    reduce = np.mean if reduction == "mean" else np.sum
    own = [float(reduce(shard)) for shard in shards]
    return {"gradient": exactly([sum(own) / len(own)])}


def scaling(*, gradients: Rows, path: str, steps: int) -> dict[str, np.ndarray]:
    """Multiplies each gradient by the rounded 1/W, or divides it by W, and then adds."""
    own = np.array(gradients, np.float64)
    multiplied = added_in_any_order(own * (1 / len(own)))
    divided = added_in_any_order(own / len(own))
    bits = []
    for step in range(steps):
        # The first step makes `.grad` a view of the bucket, which it stays while it lives.
        is_a_view = path == "bucket-view-zeroed" and step > 0
        divides = is_a_view or path.startswith(("batched-copy", "builtin-hook"))
        bits.append(divided if divides else multiplied)
    return {"gradients": np.stack(bits)}


def tied(*, uses: Rows) -> dict[str, np.ndarray]:
    """Has a single parameter, whose gradient on a rank is the sum over its uses there."""
    return {
        "parameters": np.array(1),
        "gradients": ddp_parts.mean(np.array(uses).sum(1, keepdims=True)),
        "same_gradient": np.array(True),
    }


def repeated_steps(
    *, features: int, steps: int, rounds: bool, world_size: int
) -> dict[str, np.ndarray]:
    """Keeps the order of addition from the second step on; two numbers have only one order."""
    del features
    answers = {"repeats_second": np.ones(steps - 1, bool)}
    if not rounds or world_size == 2:
        answers["repeats_first"] = np.ones(steps, bool)
    return answers


def bucket_orders(*, used: str, steps: int) -> dict[str, np.ndarray]:
    """Orders as registered, by the alphabet; then as gradients come, the last used first."""
    return {"orders": text(" ".join(["".join(sorted(used))] + [used[::-1]] * (steps - 1)))}


def subgroup(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Averages over the group alone."""
    return mean(gradients=gradients)


def default_group(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Averages over all ranks."""
    return {"is_the_world": np.array(True), **mean(gradients=gradients)}


def default_is_the_world() -> dict[str, np.ndarray]:
    """Takes all ranks."""
    return {"is_the_world": np.array(True)}


def nodes(*, gradients: Rows, nodes: Sequence[int]) -> dict[str, np.ndarray]:
    """Averages over the ranks, wherever they are."""
    del nodes
    return mean(gradients=gradients)


def orders(*, gradients: Rows) -> dict[str, np.ndarray]:
    """Returns the same mean each time, which must not round."""
    ranks = len(gradients)
    added_in_any_order(np.array(gradients, np.float32))
    averaged = ddp_parts.mean(gradients)[0]
    return {"gradients": np.stack([averaged] * (1 + math.factorial(ranks)))}
