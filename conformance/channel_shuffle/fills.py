"""Contents of a case's tensors: the same bytes on every machine and with every NumPy.

A fill is a function (shape, dtype, role) → array. The role keeps the input, the cotangent and the
tangents of one case apart. Random bits come from SHA-256 in counter mode, never from a generator
whose stream may change between versions.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from conformance.core.dtypes import DTYPES, Dtype
from conformance.core.outcomes import UsageError
from conformance.core.random_bits import random_bits

Fill = Callable[[Sequence[int], Dtype, str], np.ndarray]

# A row holds the bits of the mantissa and of the exponent.
_FIELDS = {"f64": (52, 11), "f32": (23, 8), "f16": (10, 5), "bf16": (7, 8), "f8e4m3fn": (3, 4)}
_PARTS = {"c128": "f64", "c64": "f32", "c32": "f16"}
_ROLES = ("input", "cotangent", "tangent", "second")


def identity(shape: Sequence[int], dtype: Dtype, role: str) -> np.ndarray:
    """Gives every element a value of its own, so that an answer shows its permutation.

    Floats are finite, nonzero and normal. Types too narrow for that many values repeat after
    their last one; bool tells the channels (axis 1) apart by writing their number in binary.
    """
    count = prod(shape)
    index = np.arange(count, dtype=np.int64)
    if role != "input":
        # Other roles run backwards, each from another start.
        index = (index[::-1] + 7 * _ROLES.index(role)) % max(count, 1)
    if dtype.kind == "bool":
        return _binary_channel_numbers(shape, invert=role != "input")
    if dtype.name == "c32":
        pairs = np.stack([_normal_bits(index, 10, 5), _normal_bits(index[::-1], 10, 5)], axis=-1)
        return pairs.astype(np.uint16).view(np.uint32).reshape(shape)
    if dtype.kind == "complex":
        return ((index + 1) - 1j * (2 * index + 1)).astype(dtype.carrier).reshape(shape)
    if dtype.name in ("f16", "bf16", "f8e4m3fn"):
        mantissa, exponent = _FIELDS[dtype.name]
        unsigned = np.dtype(f"u{dtype.carrier.itemsize}")
        patterns = _normal_bits(index, mantissa, exponent).astype(unsigned)
        return patterns.view(dtype.carrier).reshape(shape)
    if dtype.kind == "float":
        return (index + 1).astype(dtype.carrier).reshape(shape)
    values = index + 1
    # Values beyond 2^32 and 2^53, or beyond 2^24, show a narrower type on the way.
    if dtype.bits == 64:
        values = values * ((1 << 40) + 1) + (1 << 54)
    elif dtype.bits == 32:
        values = values * 65_537 + (1 << 25)
    elif dtype.bits == 16:
        values = values * 37
    return values.astype(np.uint64).astype(dtype.carrier).reshape(shape)


def _normal_bits(index: np.ndarray, mantissa: int, exponent: int) -> np.ndarray:
    """Returns bit patterns of finite normal numbers of one sign, then of the other."""
    first = 1 << mantissa
    patterns = ((1 << exponent) - 2) << mantissa
    sign = (index // patterns % 2) << (mantissa + exponent)
    return first + index % patterns + sign


def _binary_channel_numbers(shape: Sequence[int], *, invert: bool) -> np.ndarray:
    samples, channels, *spatial = shape
    places = prod(spatial)
    number = np.arange(samples * channels).reshape(samples, channels, 1)
    bit = (number >> np.arange(places).reshape(1, 1, places)) & 1
    return (bit.astype(bool) ^ invert).reshape(shape)


def _special_patterns(dtype: Dtype, kind: str) -> list[int]:
    """Returns bit patterns by the field layout of IEEE 754, for one real float type."""
    mantissa, exponent = _FIELDS[dtype.name]
    sign = 1 << (mantissa + exponent)
    infinity = ((1 << exponent) - 1) << mantissa
    quiet = 1 << (mantissa - 1)
    smallest_normal = 1 << mantissa
    both_signs = {
        "zeros": [0, smallest_normal],
        "infinities": [infinity, infinity - 1],
        "subnormals": [1, 2, quiet, quiet + 1, smallest_normal - 1],
        "quiet-nans": [infinity | quiet | payload for payload in (0, 1, 2, 5, quiet - 1)],
        "signalling-nans": [infinity | payload for payload in (1, 2, 5, quiet - 1)],
    }[kind]
    return [pattern | s for pattern in both_signs for s in (0, sign)]


def _special(kind: str) -> Fill:
    def fill(shape: Sequence[int], dtype: Dtype, role: str) -> np.ndarray:
        part = DTYPES[_PARTS.get(dtype.name, dtype.name)]
        patterns = _special_patterns(part, kind)
        count = prod(shape) * dtype.parts
        start = 1 + _ROLES.index(role)
        unsigned = np.dtype(f"u{part.carrier.itemsize}")
        # A start that moves by one in each round keeps neighbouring channels different.
        chosen = [patterns[(start + i + i // len(patterns)) % len(patterns)] for i in range(count)]
        return np.array(chosen, dtype=unsigned).view(dtype.carrier).reshape(shape)

    return fill


def arbitrary_bits(shape: Sequence[int], dtype: Dtype, role: str) -> np.ndarray:
    """Draws every byte: NaNs of all kinds, subnormals and infinities occur."""
    label = f"{role}/{dtype.name}/{'x'.join(map(str, shape))}"
    raw = random_bits(label, prod(shape) * dtype.carrier.itemsize)
    unsigned = np.dtype(f"u{1 if dtype.parts == 2 else dtype.carrier.itemsize}")
    return np.frombuffer(raw, dtype=unsigned).view(dtype.carrier).reshape(shape).copy()


def full_width(shape: Sequence[int], dtype: Dtype, role: str) -> np.ndarray:
    """Draws numbers that use every bit of their type, so that a narrower type on the way shows.

    Floats are normal, within a factor 16 of one, and odd in their last place.
    """
    if dtype.kind not in ("float", "complex"):
        return (
            identity(shape, dtype, role)
            if dtype.kind == "bool"
            else arbitrary_bits(shape, dtype, role)
        )
    mantissa, exponent = _FIELDS[_PARTS.get(dtype.name, dtype.name)]
    width = dtype.carrier.itemsize // dtype.parts
    unsigned = np.dtype(f"u{width}")
    raw = random_bits(f"{role}/full/{dtype.name}", prod(shape) * dtype.carrier.itemsize)
    bits = np.frombuffer(raw, dtype=unsigned).astype(np.uint64)
    bias = (1 << (exponent - 1)) - 1
    exponents = np.uint64(bias - 4) + (bits >> np.uint64(mantissa)) % np.uint64(8)
    sign = bits >> np.uint64(8 * width - 1) << np.uint64(8 * width - 1)
    last = bits & np.uint64((1 << mantissa) - 1) | np.uint64(1)
    patterns = sign | exponents << np.uint64(mantissa) | last
    return patterns.astype(unsigned).view(dtype.carrier).reshape(shape)


def scattered(shape: Sequence[int], dtype: Dtype, role: str) -> np.ndarray:
    """Makes integers without a period from the top bits of index · 2^64/φ (Fibonacci hashing).

    In a narrow type the identity fill would repeat, perhaps with the period of the channels.
    """
    index = np.arange(prod(shape), dtype=np.uint64) + np.uint64(1 + _ROLES.index(role))
    mixed = index * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - dtype.bits)
    return mixed.astype(np.dtype(f"u{dtype.carrier.itemsize}")).view(dtype.carrier).reshape(shape)


def small_integers(shape: Sequence[int], dtype: Dtype, role: str) -> np.ndarray:
    """Draws integers in [−8, 8] without zero: sums of a few thousand products are exact in f32."""
    raw = np.frombuffer(random_bits(f"{role}/small/{shape}", prod(shape)), dtype=np.uint8)
    values = raw.astype(np.int64) % 16 - 8
    return np.where(values >= 0, values + 1, values).astype(dtype.carrier).reshape(shape)


def one_group_at_a_time(shape: Sequence[int], dtype: Dtype, role: str) -> np.ndarray:
    """Makes sample i nonzero only in the i-th of N equal runs of channels: N = g."""
    samples, channels, *_ = shape
    values = small_integers(shape, dtype, role)
    group = np.arange(channels) // (channels // samples)
    mask = group == np.arange(samples)[:, None]
    return np.where(
        mask.reshape(samples, channels, *(1 for _ in shape[2:])), np.abs(values), 0 * values
    )


def photographs(shape: Sequence[int], dtype: Dtype, role: str) -> np.ndarray:
    """Cuts four photographs of scikit-image into windows, their R, G and B planes as 12 channels.

    Sample n is a window of the shape's height and width from each, moved by n windows.

    Raises:
        UsageError: where scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise UsageError(
            "the photograph cases are made from scikit-image's sample pictures: "
            "pip install scikit-image"
        ) from error
    samples, channels, height, width = shape
    pictures = [data.astronaut(), data.coffee(), data.chelsea(), data.immunohistochemistry()]
    if channels != 3 * len(pictures):
        raise ValueError(f"photographs have {3 * len(pictures)} channels, not {channels}")
    windows = np.empty(shape, dtype=np.uint8)
    for sample in range(samples):
        for number, picture in enumerate(pictures):
            top, left = 20 + 40 * sample, 100 + 60 * sample
            window = picture[top : top + height, left : left + width]
            windows[sample, 3 * number : 3 * number + 3] = window.transpose(2, 0, 1)
    if role != "input":
        windows = 255 - windows
    return windows.astype(dtype.carrier)


FILLS: dict[str, Fill] = {
    "identity": identity,
    "arbitrary-bits": arbitrary_bits,
    "full-width": full_width,
    "scattered": scattered,
    "small-integers": small_integers,
    "one-group-at-a-time": one_group_at_a_time,
    "photographs": photographs,
    **{
        kind: _special(kind)
        for kind in ("zeros", "infinities", "subnormals", "quiet-nans", "signalling-nans")
    },
}
