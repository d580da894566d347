"""Pictures that are drawn when the page is made: photographs, and error ÷ bound."""

import base64
import math
import struct
import zlib
from typing import Any

import numpy as np

from conformance.report.summary import Summary

_DECADES = 6  # Decades of error ÷ bound, from 10⁻⁶ to 1.
_BINS = 4  # Bins of a decade.


def bounds(summary: Summary) -> dict[str, Any] | None:
    """Counts error ÷ bound over powers of ten; None where nothing is within a bound.

    `bars` has a share of the largest for each bin, `below` counts the errors below the first bin.
    """
    used = summary.bounds
    if used is None:
        return None
    counts = [0] * (_DECADES * _BINS)
    below = 0
    for record in summary.run.records:
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
        "count": used.count,
        "median": f"{used.median:.2g}",
        "ninth": f"{used.ninth:.2g}",
        "largest": f"{used.largest:.3g}",
        "where": used.where,
    }


def photographs(channels: np.ndarray) -> str:
    """Draws (C, H, W), three channels a photograph, at half size in a row: a PNG as a data URL."""
    scale = 1.0 if channels.dtype == np.uint8 or channels.max(initial=0) > 1 else 255.0
    small = np.clip(channels[:, ::2, ::2].astype(np.float64) * scale, 0, 255).astype(np.uint8)
    pictures = [np.moveaxis(small[k : k + 3], 0, -1) for k in range(0, len(small), 3)]
    return png(np.concatenate(pictures, axis=1))


def png(pixels: np.ndarray) -> str:
    """Writes a picture (H, W, 3) of u8 as a data URL.

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
