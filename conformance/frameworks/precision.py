"""Measures how many bits a product of matrices keeps, since settings only promise.

A number of p bits comes back from a product with the identity if the device takes factors at p bits
or more (TF32 takes f32 at 11, and bfloat16 at 8). Half of the numbers are 1 + 2^(1−p); the others
have bits all along, since a device that splits f32 into several bfloat16 keeps a number of few set
bits. The sum of 1 and 2^(1−p), both of which every format has, is right if it is accumulated at p
bits or more. Nothing else can go wrong in such a product: an element is a number, or a sum of two.
"""

from collections.abc import Callable, Mapping

import numpy as np

from conformance.core.dtypes import DTYPES
from conformance.core.formats import FORMATS, Bits

# The bits that each format has, with the implicit first bit.
SIGNIFICANDS: Mapping[str, int] = {dtype: bits for dtype, (bits, _, _) in FORMATS.items()}
# At this size a device takes the kernels that it takes for any larger product.
SIZE = 256
# Records have the measurement under this name.
MEASURED = "matmul_bits"

Matmul = Callable[[np.ndarray, np.ndarray], np.ndarray]


def measure(matmul: Matmul, dtype: str) -> Bits:
    """Measures the bits that a device's products of matrices keep.

    Args:
        matmul: multiplies two NumPy arrays (n, n) in the carrier of the dtype.
        dtype: f64, f32, f16 or bf16.

    >>> measure(np.matmul, "f32")
    Bits(factors=24, sums=24)
    """
    carrier = DTYPES[dtype].carrier
    # Row i holds numbers of places[i] bits; each width has two rows, or more.
    turn, place = np.divmod(np.arange(SIZE), SIGNIFICANDS[dtype] - 1)
    places = 2 + place
    small = 2.0 ** (1 - places)
    # These numbers are 1.0101… in binary, with a last 1.
    long = [(2 ** (int(p) + 1) // 3 | 1) * 2.0 ** (1 - p) for p in places]
    identity = np.eye(SIZE).astype(carrier)
    numbers = np.tile(np.where(turn % 2, long, 1 + small)[:, None], SIZE).astype(carrier)
    left = matmul(numbers, identity) == numbers
    right = matmul(identity, numbers) == numbers
    ends = np.zeros((SIZE, SIZE))
    ends[:, 0], ends[:, -1] = 1, small
    sums = (1 + small)[:, None].astype(carrier)
    all_ones = np.ones((SIZE, SIZE)).astype(carrier)
    forth, back = (
        matmul(terms.astype(carrier), all_ones) == sums for terms in (ends, ends[:, ::-1].copy())
    )
    return Bits(_kept(left & right, places), _kept(forth & back, places))


# The bits by device and dtype, or a reason where a device could not be measured.
Measurements = Mapping[str, Mapping[str, Bits | str]]


def measured(matmul_of: Callable[[str], Matmul]) -> dict[str, Bits | str]:
    """Measures what a device keeps in each dtype.

    Args:
        matmul_of: returns the product of matrices in a dtype on the device.
    """
    bits: dict[str, Bits | str] = {}
    for dtype in SIGNIFICANDS:
        try:
            bits[dtype] = measure(matmul_of(dtype), dtype)
        except Exception as error:  # noqa: BLE001 - A device may raise anything for a dtype it lacks.
            bits[dtype] = f"not measured ({type(error).__name__})"
    return bits


def words(framework: str, measurements: Measurements) -> dict[str, str]:
    """Writes measurements for a record.

    >>> words("torch", {"cuda:0": {"f64": Bits(53, 53), "f32": Bits(11, 24)}})
    {'matmul_bits torch cuda:0': 'f64 53, f32 11 (sums 24)'}
    """
    return {
        f"{MEASURED} {framework} {device}": ", ".join(f"{name} {bits}" for name, bits in by.items())
        for device, by in measurements.items()
    }


def only_measured(measurements: Measurements) -> dict[str, dict[str, Bits]]:
    """Returns the measurements without the dtypes that could not be measured."""
    return {
        device: {name: bits for name, bits in by.items() if isinstance(bits, Bits)}
        for device, by in measurements.items()
    }


def _kept(equal: np.ndarray, places: np.ndarray) -> int:
    """Returns the most bits up to which every number was right."""
    lost_places = places[~equal.all(axis=1)]
    return int(lost_places.min()) - 1 if lost_places.size else int(places.max())
