"""Inputs and weights that every float type of use here holds exactly: k/2^p, k a small integer."""

from collections.abc import Mapping
from math import prod

import numpy as np

from conformance.compare.trace import Model


def integers(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """In [−8, 8] without zero."""
    values = generator.integers(1, 9, shape) * generator.choice([-1, 1], shape)
    return np.asarray(values, dtype=np.int64)


def drawn_input(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """k/4 in f32."""
    return (integers(shape, generator) / 4).astype(np.float32)


def drawn_tokens(shape: tuple[int, ...], below: int, generator: np.random.Generator) -> np.ndarray:
    """Token numbers from 0."""
    return generator.integers(0, below, shape, dtype=np.int32)


def drawn_weights(
    model: Model, generator: np.random.Generator, shift: int
) -> Mapping[str, np.ndarray]:
    """Of every weight of a model, by the rank and name of each.

    A kernel keeps the size of what passes, so that a gelu's forms differ; `shift` makes kernels
    2^shift times smaller, so that a variance is small and an epsilon shows. Running variances are
    positive, scales near one.
    """
    found = {}
    for name, shape in model.weights().items():
        last = name.replace("/", ".").rpartition(".")[2]
        k = integers(shape, generator)
        if last in ("running_var", "var"):
            values = np.abs(k) / 4
        elif len(shape) < 2:
            values = 1 + k / 16 if last in ("weight", "scale") else k / 16
        else:
            fan_in = prod(shape) // max(shape[0], 1)
            if last == "kernel":
                fan_in = prod(shape) // max(shape[-1], 1)
            values = k / 2.0 ** (shift + round(np.log2(5 * max(fan_in, 1) ** 0.5)))
        found[name] = np.asarray(values, dtype=np.float32)
    return found
