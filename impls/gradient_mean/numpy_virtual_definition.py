"""Gradient mean over thousands of virtual ranks as it is defined, rank by rank."""

from collections.abc import Callable, Sequence

import numpy as np

import conformance

Params = dict[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


@conformance.implementation("gradient_mean", framework="numpy", runs="virtual", promise="rank_mean")
def numpy_virtual_definition(
    gradient: Callable[..., Params],
    params: Params,
    batches: Sequence[Batch],
    devices: Sequence[str],
) -> Params:
    """Add up the ranks' own gradients in float64, and divide by W.

    Source: D2: the sum of the ranks' own gradients divided by W.

    Args:
        gradient: of (params, *batch), that of one rank's loss; NumPy differentiates nothing.
        params: floating-point arrays by name, of any shapes.
        batches: K of (inputs (W, n, …), targets (W, n, …), weights (W, n)).
        devices: W names.

    Returns:
        The mean over ranks of each rank's own gradient, summed over micro-batches; as params in
        names, shapes and dtypes.

    >>> def gradient(params, inputs, targets, weights):
    ...     return {"a": (weights * inputs).sum() / weights.sum()}
    >>> x = np.array([[1.0, 2.0, 3.0, 6.0]]).T
    >>> numpy_virtual_definition(gradient, {"a": x[0, 0]}, [(x, x, x**0)], ["cpu"] * 4)["a"].item()
    3.0
    """
    total = {name: np.zeros(p.shape) for name, p in params.items()}
    for batch in batches:
        for rank in range(len(devices)):
            own = gradient(params, *(array[rank] for array in batch))
            for name in total:
                total[name] += own[name]
    return {name: (total[name] / len(devices)).astype(p.dtype) for name, p in params.items()}
