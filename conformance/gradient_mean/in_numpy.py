"""Calling a NumPy implementation of the gradient mean.

NumPy differentiates nothing, so what stands where JAX has a loss is the loss's own gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from conformance.core.outcomes import Answer, Unsupported, WrongAnswer
from conformance.core.questions import GradientQuestion

# What a micro-batch is: inputs (W, n, P), targets (W, n, 1) and weights (W, n).
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
_WEIGHT = "only.weight"


def virtual(
    function: Callable[..., Any],
    question: GradientQuestion,
    start: Mapping[str, np.ndarray],
    batches: Sequence[Batch],
    device: str,
) -> Answer:
    """What the implementation returns.

    Args:
        function: of (gradient, params, batches, devices), where `gradient(params, *batch)` is that
            of one rank's loss.
        question: what is asked: a model that is w·x.
        start: the parameter.
        batches: K of (inputs (W, n, P), targets (W, n, 1), weights (W, n)).
        device: cpu.

    Raises:
        Unsupported: on any other device.
        WrongAnswer: if it returns anything but a dict of arrays like params.
    """
    if device != "cpu":
        raise Unsupported(f"numpy has no device {device}")
    params = {_WEIGHT: start[f"parameter/{_WEIGHT}"].copy()}
    copies = [tuple(array.copy() for array in batch) for batch in batches]
    given = function(_gradient, params, copies, [device] * question.world_size)
    array = given.get(_WEIGHT) if isinstance(given, Mapping) else None
    if not isinstance(array, np.ndarray) or set(given) != set(params):
        raise WrongAnswer(f"gave {type(given).__name__}, not a dict like params, of numpy.ndarray")
    return Answer({f"gradient/{_WEIGHT}": array.copy()})


def _gradient(
    params: Mapping[str, np.ndarray], inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """The gradient of Σ weights·(w·x) / Σ weights by w, for inputs (n, P) and weights (n,)."""
    del params, targets
    wide = np.promote_types(np.float32, inputs.dtype)  # NumPy's own sums of float16 are no wider
    mean = weights.astype(wide) @ inputs.astype(wide) / weights.astype(wide).sum()
    return {_WEIGHT: mean.astype(inputs.dtype).reshape(1, -1)}
