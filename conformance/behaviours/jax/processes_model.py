"""A model of JAX over several processes."""

import numpy as np

from conformance.behaviours.jax.processes_cases import PROCESSES

Rows = tuple[tuple[float, ...], ...]


def mean(
    *, devices: int, weights: tuple[float, ...], inputs: Rows, targets: tuple[float, ...]
) -> dict[str, np.ndarray]:
    """Averages over the samples, on each device of every process."""
    w, x, t = (np.asarray(values, dtype=np.float64) for values in (weights, inputs, targets))
    gradient = ((x @ w - t)[:, None] * x).mean(axis=0).astype(np.float32)
    copies = np.stack([gradient] * devices)
    return {
        "devices": np.array(devices * PROCESSES),
        "devices_of_a_process": np.array(devices),
        "shard_map": copies,
        "jit_sharding": copies,
    }
