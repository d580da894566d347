"""Parts of the cases about DataParallel and DistributedDataParallel.

A rank's numbers are arguments of the probe. A loss w·x has the gradient x, so that the gradients
show which numbers rank r got. All numbers are chosen so that no mean rounds, except in cases about
rounding.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

from conformance.core.questions import BehaviourQuestion, Case

BehaviourCase: TypeAlias = Case[BehaviourQuestion]
Cases: TypeAlias = Iterator[BehaviourCase]

# A row is a rank's own gradient of two parameters; rank 0's own gradient is never the mean.
# At W = 3 the sums are divisible by 3, since the default path multiplies by the rounded 1/3.
_INTEGERS = {
    2: ((1, 6), (2, -10)),
    3: ((3, -6), (12, 9), (30, 27)),
    4: ((1, 8), (2, -3), (5, 7), (10, 2)),
    8: tuple((1 + r * r, 8 - 3 * r) for r in range(8)),
}
GRADIENTS = {w: tuple(tuple(map(float, row)) for row in rows) for w, rows in _INTEGERS.items()}
SINGLES = {w: tuple(row[0] for row in rows) for w, rows in GRADIENTS.items()}
STARTS = {2: (5.0, 7.0), 3: (5.0, 7.0, 9.0)}

# `BOTH` runs DataParallel's replicas on the host and on several GPUs, `REAL` on GPUs alone.
BOTH = ("torch_host_data_parallel", "torch_data_parallel")
REAL = ("torch_data_parallel",)
# Pairs (B, D) with equal chunks, an odd rest, idle devices, fewer samples than devices, one sample.
SHAPES = ((8, 4), (9, 4), (5, 4), (3, 8), (1, 2))


def ddp_case(
    name: str,
    about: str,
    clauses: str,
    probe: str,
    ranks: int,
    asked_of: str = "torch_ddp",
    **arguments: Any,
) -> BehaviourCase:
    """Makes a case named `ddp-NAME`, asked in so many ranks."""
    return BehaviourCase(
        "gradient_mean",
        f"ddp-{name}",
        "distributed-data-parallel",
        about,
        tuple(clauses.split()),
        BehaviourQuestion(probe, tuple(arguments.items()), ranks),
        asked_of=(asked_of,),
    )


def data_parallel_case(
    name: str,
    about: str,
    clauses: str,
    probe: str,
    asked_of: tuple[str, ...] = BOTH,
    **arguments: Any,
) -> BehaviourCase:
    """Makes a case; `clauses` are separated by spaces, and `data_parallel` goes before `probe`."""
    return Case(
        "gradient_mean",
        name,
        "data-parallel",
        about,
        tuple(clauses.split()),
        BehaviourQuestion(f"data_parallel{probe}", tuple(arguments.items())),
        asked_of=asked_of,
    )


def sizes(batch: int, devices: int) -> dict[str, Any]:
    """Returns the two arguments of most probes."""
    return {"batch": batch, "devices": devices}
