"""Pictures that are drawn when the page is made: photographs, and error ÷ bound."""

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from conformance.report.bounds_used import spread
from conformance.run.results import Record

_DECADES = 6  # of error ÷ bound, from 10⁻⁶ to 1
_BINS = 4  # of each


def bounds(records: Sequence[Record]) -> dict[str, Any] | None:
    """Error ÷ bound as a histogram over powers of ten; None where nothing is within a bound.

    `bars` has one share of the largest for each bin, `zero` counts the errors of 0 and below the
    first bin.
    """
    found = spread(records)
    if found is None:
        return None
    counts = [0] * (_DECADES * _BINS)
    below = 0
    for record in records:
        ratio = record.error_over_bound
        if record.status != "within-bound" or ratio is None or not 0 <= ratio <= 1:
            continue
        place = math.floor((math.log10(ratio) + _DECADES) * _BINS) if ratio > 0 else -1
        if place < 0:
            below += 1
        else:
            counts[min(place, len(counts) - 1)] += 1
    most = max(*counts, below, 1)
    return {
        "bars": [{"count": count, "height": count / most} for count in counts],
        "below": {"count": below, "height": below / most},
        "decades": list(range(-_DECADES, 1)),
        "bins": _BINS,
        "count": found.count,
        "median": f"{found.median:.2g}",
        "ninth": f"{found.ninth:.2g}",
        "largest": f"{found.largest:.3g}",
        "where": found.where,
    }


def photographs(channels: np.ndarray) -> str:
    """(C, H, W), three channels a photograph, at half size in a row: a PNG as a data URL."""
    scale = 1.0 if channels.dtype == np.uint8 or channels.max(initial=0) > 1 else 255.0
    small = np.clip(channels[:, ::2, ::2].astype(np.float64) * scale, 0, 255).astype(np.uint8)
    pictures = [np.moveaxis(small[k : k + 3], 0, -1) for k in range(0, len(small), 3)]
    return png(np.concatenate(pictures, axis=1))


def png(pixels: np.ndarray) -> str:
    """A picture (H, W, 3) of u8 as a data URL.

    >>> png(np.zeros((1, 1, 3), np.uint8))[:30]
    'data:image/png;base64,iVBORw0K'
    """
    height, width, _ = pixels.shape
    # Each row as differences to the pixel on its left (filter 1), which compress better.
    rows = pixels.reshape(height, width * 3)
    left = np.concatenate([np.zeros((height, 3), np.uint8), rows[:, :-3]], axis=1)
    raw = np.concatenate([np.ones((height, 1), np.uint8), rows - left], axis=1).tobytes()
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(raw, 9)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
