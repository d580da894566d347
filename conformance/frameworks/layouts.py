"""Layouts: the same values in memory in different ways."""

import numpy as np

from conformance.core.questions import Layout


def laid_out(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Returns a new array equal to `values` (N, C, *spatial), with the strides of the layout.

    >>> laid_out(np.zeros((2, 3, 4), dtype=np.int8), "transposed").strides
    (12, 1, 3)
    """
    match layout:
        case "contiguous":
            return np.array(values, order="C")
        case "channels_last" | "channels_last_3d":
            return np.moveaxis(np.array(np.moveaxis(values, 1, -1), order="C"), -1, 1)
        case "transposed":
            return np.array(values.swapaxes(1, -1), order="C").swapaxes(1, -1)
        case "sliced":
            # The view is the middle of a larger array, every second element of its last axis.
            shape = [size + 2 for size in values.shape[:-1]] + [2 * values.shape[-1] + 1]
            larger = np.zeros(shape, dtype=values.dtype)
            view = larger[(*(slice(1, -1) for _ in shape[:-1]), slice(1, None, 2))]
            view[...] = values
            return view
        case "expanded":
            # Memory holds one sample, which the view shows N times.
            return np.broadcast_to(values[:1].copy(), values.shape)
        case "negative":
            return np.array(values[:, ::-1, ..., ::-1], order="C")[:, ::-1, ..., ::-1]
