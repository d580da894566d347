"""Weigh a JAX function that returns gradients: any pytree, jitted, mapped or sharded."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.weighing.asked import Asked, solutions
from conformance.weighing.items import rows_of, weights_but_for_a_clip
from conformance.weighing.weights import Weights

_AT_ONCE = 64  # items whose gradients are computed in one call


def weigh(
    gradient: Callable[[Any, Any], Any],
    losses: Callable[[Any, Any], Any],
    params: Any,
    batch: Any,
    *,
    ranks: int | Any | None = None,
    micro_batches: int | Any | None = None,
) -> Weights:
    """Return what each item counts for in a gradient; see `conformance.weigh`."""

    def again(times: float) -> Asked:
        there = params
        if times != 1:
            there = jax.tree.map(lambda x: x * x.dtype.type(times) if _is_trained(x) else x, params)
        return _asked(gradient, losses, there, batch, ranks, micro_batches)

    return weights_but_for_a_clip(again)


def _asked(
    gradient: Callable[[Any, Any], Any],
    losses: Callable[[Any, Any], Any],
    params: Any,
    batch: Any,
    ranks: Any,
    micro_batches: Any,
) -> Asked:
    given = jax.tree.leaves(gradient(*_copied((params, batch))))
    paths, structure = jax.tree.flatten_with_path(params)
    leaves = [leaf for _, leaf in paths]
    trained = [i for i, leaf in enumerate(leaves) if _is_trained(leaf)]
    own = [leaves[i] for i in trained]

    def of_trained(values: list[Any]) -> Any:
        whole = list(leaves)
        for i, value in zip(trained, values, strict=True):
            whole[i] = value
        return losses(jax.tree.unflatten(structure, whole), batch)

    result = jnp.asarray(of_trained(own))
    shape = result.shape
    columns = _columns(of_trained, own, result)
    member, world = _ranks(result, ranks)
    asked = Asked(
        columns,
        _gradients([g for g in given if _is_trained(g)], own, world),
        shape,
        member,
        _along(micro_batches, shape),
        world,
        max((float(jnp.finfo(leaf.dtype).eps) / 2 for leaf in own), default=2.0**-24),
        leaves=tuple(
            (jax.tree_util.keystr(paths[i][0], simple=True, separator="."), leaves[i].size)
            for i in trained
        ),
        rows=rows_of(shape, ranks, micro_batches),
    )
    if not asked.is_finite:
        return asked
    values = np.nan_to_num(solutions(asked)[0].values)
    seed = jnp.asarray(values.reshape(shape), result.dtype)
    direct = jax.grad(lambda p: jnp.sum(of_trained(p) * seed))(own)
    apart = _flat(direct) - np.asarray(seed, np.float64).reshape(-1) @ columns
    return replace(asked, measured=float(np.linalg.norm(apart)))


def _copied(tree: Any) -> Any:
    """Return a copy, which a step may have for its own: what is donated is gone afterwards."""
    return jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, jax.Array) else leaf, tree)


def _is_trained(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray)) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _columns(of_trained: Callable[[list[Any]], Any], own: list[Any], result: Any) -> np.ndarray:
    """Return the gradient of each item's loss, a row each, on the host."""
    places = [jnp.asarray(np.asarray(leaf)) for leaf in own]  # one device is enough for these

    def some(seeds: Any, values: list[Any]) -> Any:
        _, pull = jax.vjp(of_trained, values)
        return jax.vmap(lambda seed: pull(seed)[0])(seeds)

    items = result.size
    rows = []
    for first in range(0, items, _AT_ONCE):
        seeds = np.zeros((min(_AT_ONCE, items - first), items), result.dtype)
        seeds[np.arange(len(seeds)), first + np.arange(len(seeds))] = 1
        pulled = some(seeds.reshape(-1, *result.shape), places)
        rows.append(
            np.concatenate(
                [np.asarray(p, np.float64).reshape(len(seeds), -1) for p in pulled], axis=1
            )
        )
    return np.concatenate(rows)


def _flat(leaves: list[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in leaves])


def _gradients(given: list[Any], own: list[Any], world: int) -> np.ndarray:
    """Return what was given as one row, or as one for each rank where it is stacked."""
    shapes = [leaf.shape for leaf in own]
    if [g.shape for g in given] == shapes:
        per_device = _per_device(given) if world > 1 else None
        return per_device if per_device is not None else _flat(given)[None]
    if [g.shape for g in given] == [(world, *shape) for shape in shapes]:
        host = [np.asarray(g, np.float64) for g in given]
        return np.stack([np.concatenate([g[r].reshape(-1) for g in host]) for r in range(world)])
    raise ValueError(
        f"gradient(params, batch) gives arrays of shapes {[g.shape for g in given]}; those of "
        f"params are {shapes}, or with {world} ranks before them"
    )


def _per_device(given: list[Any]) -> np.ndarray | None:
    """Return every device's copy where all are replicated over the same devices, else None."""
    rows = []
    for leaf in given:
        if not isinstance(leaf, jax.Array) or len(leaf.addressable_shards) < 2:
            return None
        if not leaf.is_fully_replicated:
            return None
        rows.append([np.asarray(s.data, np.float64).reshape(-1) for s in leaf.addressable_shards])
    return np.stack([np.concatenate(parts) for parts in zip(*rows, strict=True)])


def _ranks(result: Any, ranks: Any) -> tuple[np.ndarray, int]:
    """Return each item's rank and W: as told, as the losses are sharded, or by the first axis."""
    shape = result.shape
    if ranks is None:
        regions = {
            tuple((s.start, s.stop) for s in index)
            for index in result.sharding.devices_indices_map(shape).values()
        }
        if len(regions) > 1:
            member = np.zeros(shape, int)
            for rank, region in enumerate(sorted(regions, key=_starts)):
                member[tuple(slice(*ends) for ends in region)] = rank
            return member.reshape(-1), len(regions)
        if not (len(shape) > 1 and shape[0] == jax.device_count() > 1):
            return np.zeros(result.size, int), 1
        ranks = 0
    member = _along(ranks, shape)
    return member, int(member.max(initial=0)) + 1


def _starts(region: tuple[tuple[int | None, int | None], ...]) -> tuple[int, ...]:
    return tuple(start or 0 for start, _ in region)


def _along(axis: int | Any | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return the index along an axis for each item; an array of indices stands for itself."""
    if axis is None:
        return np.zeros(int(np.prod(shape)), int)
    if isinstance(axis, int):
        return np.indices(shape)[axis].reshape(-1)
    return np.broadcast_to(np.asarray(axis, int), shape).reshape(-1)
