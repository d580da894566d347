"""Cases on what JAX's own transformations do to a gradient: a case or more a clause."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from conformance.core.questions import BehaviourQuestion, Case

BehaviourCase = Case[BehaviourQuestion]

# The reciprocals of powers of two are exact, and the reciprocal of 3 is not.
WORLDS = (2, 3, 4, 8)
PARAMETERS = np.array([3, 5, 7], dtype=np.float32)
_DIRECTION = np.array([1, -2, 4], dtype=np.float32)
# Each shard has so many samples, and their total divides without rounding.
_COUNTS = {2: (3, 1), 3: (3, 1, 4), 4: (3, 1, 2, 2), 8: (3, 1, 2, 2, 1, 3, 2, 2)}


def multiples(count: int) -> np.ndarray:
    """Makes `count` samples or shards, (count, 3).

    Row i is count·(i + 1) times a direction, which stays an integer when divided by the count.
    Where the loss is a product with the parameters, the row is the gradient.
    """
    return count * np.arange(1, count + 1, dtype=np.float32)[:, None] * _DIRECTION


def padded_shards(devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Pads unequal shards to the same length: the samples (W, n, 3) and their weights (W, n).

    A weight is 1 for a sample and 0 for padding. The padding itself is not zero, so that a missing
    mask shows even where nothing is divided.
    """
    counts = np.array(_COUNTS[devices])
    longest = int(counts.max())
    weights = (np.arange(longest) < counts[:, None]).astype(np.float32)
    numbers = np.arange(1, devices * longest + 1, dtype=np.float32).reshape(devices, longest, 1)
    return 36 * numbers * _DIRECTION, weights


def cases() -> tuple[BehaviourCase, ...]:
    """Returns every case about JAX."""
    return tuple(
        case for family in (_pmap, _gradients, _unequal, _sharded, _arrays) for case in family()
    )


def _case(
    name: str, about: str, clauses: str, probe: str, asked_of: str, **arguments: object
) -> BehaviourCase:
    return BehaviourCase(
        "gradient_mean",
        f"jax-{name}",
        "jax",
        about,
        tuple(clauses.split()),
        BehaviourQuestion(probe, tuple(arguments.items())),
        asked_of=(asked_of,),
    )


def _pmap() -> Iterator[BehaviourCase]:
    """Asks what pmap and pmean are (J1 to J4)."""
    for devices in WORLDS:
        yield _case(
            f"pmap-leading-axis-w{devices}",
            "As many devices take part as the leading axis is long; a longer one is refused.",
            "J1",
            "jax_parallel.pmap_leading_axis",
            "jax_pmap",
            devices=devices,
        )
        yield _case(
            f"pmap-unequal-axes-w{devices}",
            "Arguments with leading axes of different lengths are refused, whichever is longer.",
            "J2",
            "jax_parallel.pmap_unequal_axes",
            "jax_pmap",
            devices=devices,
        )
        yield _case(
            f"pmap-is-shard-map-w{devices}",
            "pmap's jaxpr is a jit of an unchecked shard_map, whose bits it gives.",
            "J3",
            "jax_parallel.pmap_is_shard_map",
            "jax_pmap",
            devices=devices,
        )
        yield _case(
            f"pmean-is-psum-divided-w{devices}",
            "The jaxpr of pmean is a psum and a division by the number of shards.",
            "J4",
            "jax_parallel.pmean_is_psum_divided",
            "jax_psum_divided",
            devices=devices,
        )
    for dtype, devices in product(("f32", "f64"), (3, 4, 7)):
        yield _case(
            f"pmean-rounding-{dtype}-w{devices}",
            "On the CPU pmean multiplies by the rounded reciprocal, as a constant divides.",
            "J4",
            "jax_parallel.pmean_rounding",
            "jax_psum_divided",
            devices=devices,
            dtype=dtype,
        )


def _gradients() -> Iterator[BehaviourCase]:
    """Asks whose gradient it is, with and without the check of what varies (J5 to J10)."""
    rows = (
        (
            "checked-gradient",
            "With check_vma=True the gradient of replicated parameters is the sum over shards.",
            "J5",
            "jax_shard_map",
        ),
        (
            "checked-gradient-reduced-again",
            "With check_vma=True pmean of the gradient leaves W times the mean, and psum W² times.",
            "J6",
            "jax_shard_map",
        ),
        (
            "averaged-in-every-mode",
            "pmean of the gradient of a pmean'd loss, or of varying parameters, is the mean.",
            "J7",
            "jax_pcast",
        ),
        (
            "averaged-loss-alone",
            "The gradient of a pmean'd loss is the mean if check_vma=True, else the shard's own.",
            "J7",
            "jax_pmap_loss",
        ),
        (
            "own-gradient",
            "Without the check a gradient is the shard's own.",
            "J8",
            "jax_shard_map_unchecked",
        ),
        (
            "declared-replicated",
            "Declared replicated, an output that varies is shard 0's, or with the check refused.",
            "J8",
            "jax_shard_map_unchecked",
        ),
        (
            "summed-loss",
            "The gradient of a psum'd loss is W times the shard's own, or with the check the sum.",
            "J9",
            "jax_psum_sum",
        ),
        (
            "gradient-outside",
            "A gradient taken outside shard_map is right with and without the check.",
            "J10",
            "jax_grad_outside",
        ),
    )
    for name, about, clause, asked_of in rows:
        for devices in WORLDS:
            probe = f"jax_parallel.{name.replace('-', '_')}"
            yield _case(f"{name}-w{devices}", about, clause, probe, asked_of, devices=devices)


def _unequal() -> Iterator[BehaviourCase]:
    """Pads and masks shards (J16)."""
    for devices in WORLDS:
        yield _case(
            f"unequal-shards-w{devices}",
            "Shards of different lengths cannot be had: a batch that W does not divide is refused.",
            "J16",
            "jax_parallel.unequal_shards",
            "jax_masked",
            devices=devices,
        )
        yield _case(
            f"masked-shards-w{devices}",
            "Of padded shards, psum(sums) / psum(counts) is the mean over samples, and pmean is "
            "not.",
            "J16",
            "jax_parallel.masked_shards",
            "jax_masked",
            devices=devices,
        )


def _sharded() -> Iterator[BehaviourCase]:
    """Runs jit on arrays that lie on several devices (J11)."""
    for devices, count in ((2, 8), (3, 6), (4, 8), (8, 16)):
        yield _case(
            f"sharded-batch-w{devices}-n{count}",
            "However the batch comes to be sharded, its mean is the mean over all samples.",
            "J11",
            "jax_arrays.sharded_batch",
            "jax_jit_sharding",
            devices=devices,
            count=count,
        )
    for devices, count in ((2, 3), (3, 8), (4, 6), (8, 12)):
        yield _case(
            f"indivisible-batch-w{devices}-n{count}",
            "A batch that W does not divide is refused, except by a constraint inside jit.",
            "J11",
            "jax_arrays.indivisible_batch",
            "jax_jit_sharding",
            devices=devices,
            count=count,
        )


def _arrays() -> Iterator[BehaviourCase]:
    """Asks about keys, donated arrays and 64 bits (J12 to J14)."""
    for devices in (3, 8):
        yield _case(
            f"same-key-w{devices}",
            "One key gives every shard the same noise; with the axis index folded in, its own.",
            "J12",
            "jax_arrays.same_key",
            "jax_shard_map",
            devices=devices,
        )
    for devices in WORLDS:
        yield _case(
            f"donated-w{devices}",
            "A donated array is deleted, and using it afterwards is a RuntimeError.",
            "J13",
            "jax_arrays.donated",
            "jax_jit_sharding",
            devices=devices,
        )
    yield _case(
        "donated-in-vain",
        "A donated array whose memory no output can take stays, and a UserWarning says so.",
        "J13",
        "jax_arrays.donated_in_vain",
        "jax_jit_sharding",
    )
    for dtype in ("f64", "i64"):
        yield _case(
            f"without-x64-{dtype}",
            "Unless x64 is on, 64 bits become 32 without a word, except where a dtype was named.",
            "J14",
            "jax_arrays.without_x64",
            "jax_jit_sharding",
            dtype=dtype,
        )
    yield _case(
        "without-x64-python-int",
        "Unless x64 is on, a Python int that 32 bits do not hold is an OverflowError.",
        "J14",
        "jax_arrays.without_x64_python_int",
        "jax_jit_sharding",
    )
