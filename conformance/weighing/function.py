"""The function `conformance.weigh`, for both frameworks."""

import sys
from collections.abc import Callable
from typing import Any

from conformance.weighing.weights import Weights


def weigh(
    gradient: Callable[[Any, Any], Any],
    losses: Callable[[Any, Any], Any],
    params: Any,
    batch: Any,
    *,
    ranks: Any = None,
    micro_batches: Any = None,
) -> Weights:
    """Return what each item of a batch counts for in the gradient of a training step.

    Args:
        gradient: JAX: gradient(params, batch) returns your gradients, sharded, stacked by pmap, or
            neither. torch: gradient(model, batch) leaves them in `.grad`.
        losses: losses(params, batch) returns one loss for each item, in any shape, not reduced.
            An item whose loss has no gradient is taken to be masked.
        params: a pytree of arrays; for torch the module.
        batch: whatever both functions take. In a distributed torch script, this rank's own.
        ranks: which axis of the losses counts ranks, or an array of ranks of their shape. Without
            it, JAX's sharding of the losses says, or a first axis as long as there are devices.
        micro_batches: the same for micro-batches; one, without it.

    >>> import conformance, numpy, torch
    >>> model = torch.nn.Linear(8, 1)
    >>> x, y = torch.randn(3, 8), torch.randn(3, 1)
    >>> def gradient(model, batch):
    ...     torch.nn.functional.mse_loss(model(x), y).backward()
    >>> def losses(model, batch):
    ...     return (model(x) - y)[:, 0] ** 2
    >>> conformance.weigh(gradient, losses, model, (x, y)).formula
    '1/N'
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(params, torch.nn.Module):
        from conformance.weighing import in_torch

        return in_torch.weigh(
            gradient, losses, params, batch, ranks=ranks, micro_batches=micro_batches
        )
    from conformance.weighing import in_jax

    return in_jax.weigh(gradient, losses, params, batch, ranks=ranks, micro_batches=micro_batches)
