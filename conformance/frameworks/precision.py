"""How many bits a product of matrices really keeps: measured, since settings only promise.

A number of p bits comes back from a product with the identity if the factors are taken at p bits or
more (TF32 takes f32 at 11, and bfloat16 at 8). Half of the numbers are 1 + 2^(1−p); the others have
bits all along, since a device that splits f32 into several bfloat16 keeps any number of few ones.
The sum of 1 and 2^(1−p), both of which every format has, comes out if it is accumulated at p bits
or more. Nothing else can go wrong in such a product: each element is one number, or the sum of two.
"""

from collections.abc import Callable, Mapping

import numpy as np

from conformance.core.dtypes import DTYPES
from conformance.core.formats import FORMATS, Bits

# The bits that each format has, the first one included.
SIGNIFICANDS: Mapping[str, int] = {dtype: bits for dtype, (bits, _, _) in FORMATS.items()}
# Large enough that a device takes the kernels that it takes for any other product.
SIZE = 256
MEASURED = "matmul_bits"  # what a record calls it

Matmul = Callable[[np.ndarray, np.ndarray], np.ndarray]


def measure(matmul: Matmul, dtype: str) -> Bits:
    """The bits that a device's products of matrices keep.

    Args:
        matmul: of two NumPy arrays (n, n) in the carrier of the dtype, to another one.
        dtype: f64, f32, f16 or bf16.

    >>> measure(np.matmul, "f32")
    Bits(factors=24, sums=24)
    """
    carrier = DTYPES[dtype].carrier
    # Row i is about numbers of places[i] bits; each width has two rows, or more.
    turn, place = np.divmod(np.arange(SIZE), SIGNIFICANDS[dtype] - 1)
    places = 2 + place
    small = 2.0 ** (1 - places)
    long = [(2 ** (int(p) + 1) // 3 | 1) * 2.0 ** (1 - p) for p in places]  # 1.0101… and a last 1
    one = np.eye(SIZE).astype(carrier)
    numbers = np.tile(np.where(turn % 2, long, 1 + small)[:, None], SIZE).astype(carrier)
    left = matmul(numbers, one) == numbers
    right = matmul(one, numbers) == numbers
    ends = np.zeros((SIZE, SIZE))
    ends[:, 0], ends[:, -1] = 1, small
    wanted = (1 + small)[:, None].astype(carrier)
    ones = np.ones((SIZE, SIZE)).astype(carrier)
    forth, back = (
        matmul(terms.astype(carrier), ones) == wanted for terms in (ends, ends[:, ::-1].copy())
    )
    return Bits(_kept(left & right, places), _kept(forth & back, places))


# By device and dtype; where a device could not be asked, its words.
Kept = Mapping[str, Mapping[str, Bits | str]]


def measured(matmul_of: Callable[[str], Matmul]) -> dict[str, Bits | str]:
    """What a device keeps in each dtype.

    Args:
        matmul_of: a dtype's product of matrices on the device.
    """
    found: dict[str, Bits | str] = {}
    for dtype in SIGNIFICANDS:
        try:
            found[dtype] = measure(matmul_of(dtype), dtype)
        except Exception as error:  # noqa: BLE001 - no device has to have every dtype
            found[dtype] = f"not measured ({type(error).__name__})"
    return found


def words(framework: str, kept: Kept) -> dict[str, str]:
    """What a record says of measurements.

    >>> words("torch", {"cuda:0": {"f64": Bits(53, 53), "f32": Bits(11, 24)}})
    {'matmul_bits torch cuda:0': 'f64 53, f32 11 (sums 24)'}
    """
    return {
        f"{MEASURED} {framework} {device}": ", ".join(f"{name} {bits}" for name, bits in by.items())
        for device, by in kept.items()
    }


def told(kept: Kept) -> dict[str, dict[str, Bits]]:
    """What was measured, without what could not be."""
    return {
        device: {name: bits for name, bits in by.items() if isinstance(bits, Bits)}
        for device, by in kept.items()
    }


def _kept(equal: np.ndarray, places: np.ndarray) -> int:
    """The most bits up to which every number came out as it should."""
    lost = places[~equal.all(axis=1)]
    return int(lost.min()) - 1 if lost.size else int(places.max())
