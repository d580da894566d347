"""Weigh a torch function that leaves averaged gradients in `.grad`, in one process or in many."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from conformance.weighing.asked import Asked, solutions
from conformance.weighing.items import rows_of, weights
from conformance.weighing.torch_exchange import Exchange
from conformance.weighing.weights import Weights

_WAIT = 300.0  # seconds for the other ranks


def weigh(
    gradient: Callable[[Any, Any], Any],
    losses: Callable[[Any, Any], Any],
    model: torch.nn.Module,
    batch: Any,
    *,
    ranks: int | Any | None = None,
    micro_batches: int | Any | None = None,
) -> Weights:
    """Return what each item counts for in the gradients; see `conformance.weigh`.

    In a distributed script every rank calls it with its own batch; all get the same weights, the
    ranks' items one after another.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    own = losses(model, batch)
    shape = tuple(own.shape)
    columns = torch.stack(
        [_flat(_gradients(item, parameters), parameters) for item in own.reshape(-1)]
    )
    before = [p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    gradient(model, batch)
    given = _flat([p.grad for p in parameters], parameters)
    for parameter, old in zip(parameters, before, strict=True):
        parameter.grad = old
    exchange = Exchange(_WAIT)
    if exchange.world > 1:
        return _of_ranks(exchange, columns, given, own, micro_batches, _leaves(model))
    member = _along(ranks, shape)
    asked = Asked(
        columns.numpy(),
        given.numpy()[None],
        shape,
        member,
        _along(micro_batches, shape),
        int(member.max(initial=0)) + 1,
        torch.finfo(own.dtype).eps / 2,
        leaves=_leaves(model),
        rows=rows_of(shape, ranks, micro_batches),
    )
    measured = _measured(asked, losses, model, batch) if asked.is_finite else 0.0
    return weights(replace(asked, measured=measured))


def _of_ranks(
    exchange: Exchange,
    columns: torch.Tensor,
    given: torch.Tensor,
    own: torch.Tensor,
    axis: Any,
    leaves: tuple[tuple[str, int], ...],
) -> Weights:
    micro_batches = _along(axis, tuple(own.shape)).tolist()
    rows = rows_of(tuple(own.shape), axis)
    told = exchange.gather(
        {
            "items": len(columns),
            "micro_batches": micro_batches,
            "rows": [] if rows is None else rows.tolist(),
        }
    )
    counts = [one["items"] for one in told]
    sequences = [np.array(one["rows"], int) for one in told]  # a rank's own numbers are enough
    asked = Asked(
        torch.cat(exchange.gather_rows(columns, counts)).numpy(),
        torch.cat(exchange.gather_rows(given[None], [1] * exchange.world)).numpy(),
        (sum(counts),),
        np.repeat(np.arange(exchange.world), counts),
        np.array([k for one in told for k in one["micro_batches"]], int),
        exchange.world,
        torch.finfo(own.dtype).eps / 2,
        leaves=leaves,
        rows=None if rows is None else np.concatenate(sequences),
    )
    return weights(asked)


def _leaves(model: torch.nn.Module) -> tuple[tuple[str, int], ...]:
    return tuple((name, p.numel()) for name, p in model.named_parameters() if p.requires_grad)


def _measured(asked: Asked, losses: Callable[[Any, Any], Any], model: Any, batch: Any) -> float:
    """Return what the backward pass of the same weighted sum rounds, the other way round."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    own = losses(model, batch)
    seed = torch.from_numpy(np.nan_to_num(solutions(asked)[0].values)).to(own.dtype)
    direct = _flat(_gradients((own.reshape(-1) * seed).sum(), parameters), parameters).numpy()
    return float(np.linalg.norm(direct - seed.double().numpy() @ asked.columns))


def _gradients(scalar: torch.Tensor, parameters: list[Any]) -> Any:
    return torch.autograd.grad(scalar, parameters, retain_graph=True, allow_unused=True)


def _flat(gradients: Any, parameters: list[Any]) -> torch.Tensor:
    return torch.cat(
        [
            torch.zeros(p.numel(), dtype=torch.float64)
            if g is None
            else g.detach().double().reshape(-1).cpu()
            for g, p in zip(gradients, parameters, strict=True)
        ]
    )


def _along(axis: int | Any | None, shape: tuple[int, ...]) -> np.ndarray:
    if axis is None:
        return np.zeros(int(np.prod(shape)), int)
    if isinstance(axis, int):
        return np.indices(shape)[axis].reshape(-1)
    return np.broadcast_to(np.asarray(axis, int), shape).reshape(-1)
