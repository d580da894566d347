"""Calls a NumPy implementation of the gradient mean.

NumPy differentiates nothing, so the implementation gets the loss's gradient where JAX gets a loss.
"""

from collections.abc import Mapping

import numpy as np

from conformance.core.outcomes import Answer, Unsupported, WrongAnswer
from conformance.gradient_mean.call import Call

_WEIGHT = "only.weight"


def per_rank(call: Call) -> Answer:
    """Declines: NumPy differentiates nothing."""
    del call
    raise Unsupported("numpy has no gradients to average")


def one_process(call: Call) -> Answer:
    """Declines: NumPy differentiates nothing."""
    del call
    raise Unsupported("numpy has no gradients to average")


def virtual(call: Call) -> Answer:
    """Returns the implementation's gradient for the model w·x.

    The function takes (gradient, params, batches, devices), where `gradient(params, *batch)` is the
    gradient of a rank's loss and a batch is (inputs (W, n, P), targets (W, n, 1), weights (W, n)).

    Raises:
        Unsupported: on any device but the CPU.
        WrongAnswer: if it returns anything but a dict of arrays like params.
    """
    if call.device != "cpu":
        raise Unsupported(f"numpy has no device {call.device}")
    params = {_WEIGHT: call.start[f"parameter/{_WEIGHT}"].copy()}
    copies = [tuple(array.copy() for array in batch) for batch in call.batches]
    returned = call.function(_gradient, params, copies, [call.device] * call.question.world_size)
    array = returned.get(_WEIGHT) if isinstance(returned, Mapping) else None
    if not isinstance(array, np.ndarray) or set(returned) != {_WEIGHT}:
        kind = type(returned).__name__
        raise WrongAnswer(f"gave {kind}, not a dict like params, of numpy.ndarray")
    return Answer({f"gradient/{_WEIGHT}": array.copy()})


def _gradient(
    params: Mapping[str, np.ndarray], inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the gradient by w of Σ weights·(w·x) / Σ weights: inputs (n, P), weights (n,)."""
    del params, targets
    # NumPy's own sums of float16 are no wider than float16.
    wide = np.promote_types(np.float32, inputs.dtype)
    mean = weights.astype(wide) @ inputs.astype(wide) / weights.astype(wide).sum()
    return {_WEIGHT: mean.astype(inputs.dtype).reshape(1, -1)}
