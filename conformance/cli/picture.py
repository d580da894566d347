"""A picture of a case's photographs, before and after the shuffle."""

from pathlib import Path

import numpy as np

from conformance.core.outcomes import UsageError
from conformance.core.questions import AnyCase
from conformance.subjects import solve

# So many pixels separate two photographs.
GAP = 8


def draw(case: AnyCase, file: Path) -> str:
    """Draws sample 0 of a photograph case as PNG, three channels as red, green and blue each.

    The upper row shows the input, the lower row the output of the shuffle.

    Returns:
        A line that says what was written.

    Raises:
        UsageError: if Pillow is missing, or the file cannot be written.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError("Pillow draws the picture: pip install pillow") from error
    golden = solve(case)
    rows = [_row(golden.inputs["input"][0]), _row(golden.answers["output"][0])]
    space = np.full((GAP, rows[0].shape[1], 3), 255, dtype=np.uint8)
    picture = np.concatenate([rows[0], space, rows[1]])
    try:
        Image.fromarray(picture).save(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be written ({error})") from error
    return f"{file}: {picture.shape[1]}×{picture.shape[0]}, above before, below after the shuffle"


def _row(channels: np.ndarray) -> np.ndarray:
    """Joins (C, H, W) into C/3 colour pictures side by side, (H, width, 3)."""
    pictures = [np.moveaxis(channels[k : k + 3], 0, -1) for k in range(0, len(channels), 3)]
    space = np.full((pictures[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    spaced = [part for picture in pictures for part in (picture, space)][:-1]
    return np.concatenate(spaced, axis=1)
