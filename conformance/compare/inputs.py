"""Inputs and weights that every float type of use here holds exactly: k/2^p, with twenty bits of k.

So many that no value meets a ReLU's zero, or another value, by chance.
"""

from collections.abc import Mapping
from math import prod

import numpy as np

from conformance.compare.trace import Model

_STEP = 2.0**-18


def drawn(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """As a normal distribution has them, on a lattice."""
    return np.round(generator.normal(size=shape) / _STEP) * _STEP


def drawn_ids(shape: tuple[int, ...], below: int, generator: np.random.Generator) -> np.ndarray:
    """Token numbers from 0."""
    return generator.integers(0, below, shape, dtype=np.int64)


def drawn_weights(
    model: Model, generator: np.random.Generator, spread: float = 1.0
) -> Mapping[str, np.ndarray]:
    """Of every weight of a model, by the rank and name of each.

    A kernel keeps the size of what passes; running variances are positive, scales near `spread`.
    """
    weights = {}
    for name, shape in model.weights().items():
        last = name.replace("/", ".").rpartition(".")[2]
        x = drawn(shape, generator)
        if last in ("running_var", "var"):
            x = np.abs(x) + 0.25
        elif len(shape) < 2:
            x = spread * (1 + x / 8) if last in ("weight", "scale") else x / 8
        elif "embed" not in name.lower():
            fan_in = prod(shape) // max(shape[-1 if last == "kernel" else 0], 1)
            x = x * 2.0 ** -round(np.log2(max(fan_in, 1) ** 0.5))
        weights[name] = x
    return weights
