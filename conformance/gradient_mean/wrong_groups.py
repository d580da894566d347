"""Wrong averages in which some ranks, some parameters or one axis fare otherwise than the others.

The names of their ranks and groups are those of a mesh of two axes: ranks side by side are a group
of one axis, ranks that are W / g apart are one of the other.
"""

from collections.abc import Iterator

import numpy as np

from conformance.core.declarations import STEP_MEAN
from conformance.gradient_mean.models import model_of
from conformance.gradient_mean.parts import ByRank, Gradients, Parts, norm_of, scaled, total


def divisors(world: int) -> list[int]:
    """Returns the sizes that an axis of several ranks may have, W among them.

    >>> divisors(8), divisors(3)
    ([2, 4, 8], [3])
    """
    return [size for size in range(2, world + 1) if world % size == 0]


def averaged_over_one_axis(parts: Parts) -> Iterator[ByRank]:
    """Leaves out the division by one axis, makes it twice, or leaves out the axis itself."""
    if not parts.is_mean:
        return
    for size in divisors(parts.world)[:-1]:
        yield parts.everywhere(scaled(parts.right, size))
        yield parts.everywhere(scaled(parts.right, 1 / size))
        if parts.adding != "sample_mean":
            apart = parts.world // size
            yield _means(parts, [rank // size for rank in range(parts.world)])
            yield _means(parts, [rank % apart for rank in range(parts.world)])


def _means(parts: Parts, groups: list[int]) -> ByRank:
    """Returns for each rank the mean of its group alone."""
    owns = [parts.own(rank) for rank in range(parts.world)]
    means = {
        group: scaled(
            total([own for own, of in zip(owns, groups, strict=True) if of == group]),
            1 / groups.count(group),
        )
        for group in groups
    }
    return [means[group] for group in groups]


def experts_scaled_by_the_group(parts: Parts) -> Iterator[ByRank]:
    """Scales experts' gradients by the size of a group, or by its reciprocal."""
    model = model_of(parts.question)
    if not model.summed:
        return
    experts = {name for head in model.heads for name, _ in head.parameters()}
    for size in divisors(parts.world):
        for factor in (size, 1 / size):
            scaled_experts = scaled(_only(parts.right, experts), factor)
            yield parts.everywhere({**parts.right, **scaled_experts})


def moved_after_wrapping(parts: Parts) -> Iterator[ByRank]:
    """Averages all layers but one, or none but one: each rank has its own gradient of the rest."""
    if parts.adding == "sample_mean" or parts.world == 1:
        return
    layers: dict[str, set[str]] = {}
    for name, values in parts.right.items():
        if values.any():
            layers.setdefault(name.rpartition(".")[0], set()).add(name)
    if len(layers) < 2:
        return
    owns = [parts.own(rank) for rank in range(parts.world)]
    everything = set().union(*layers.values())
    for names in layers.values():
        yield [{**parts.right, **_only(own, names)} for own in owns]
        if len(layers) > 2:
            yield [{**parts.right, **_only(own, everything - names)} for own in owns]


def used_in_an_earlier_micro_batch(parts: Parts) -> Iterator[ByRank]:
    """Leaves each rank its own gradient of the layers that the last micro-batch does not use."""
    model = model_of(parts.question)
    if parts.adding == "sample_mean" or parts.world == 1 or not model.rare:
        return
    names = {name for layer in model.rare for name, _ in layer.parameters()}
    owns = [parts.own(rank) for rank in range(parts.world)]
    yield [{**parts.right, **_only(own, names)} for own in owns]


def loss_scale_of_its_own(parts: Parts) -> Iterator[ByRank]:
    """Averages gradients under a scale for each rank, which divides by its own afterwards.

    A dynamic scale is halved or doubled, by one rank; or every rank has another one.
    """
    if parts.adding == "sample_mean" or parts.world == 1:
        return
    ranks = range(parts.world)
    scales = [
        [factor if r == other else 1.0 for r in ranks] for other in ranks for factor in (0.5, 2.0)
    ]
    for by_rank in (*scales, [2.0**r for r in ranks], [2.0**-r for r in ranks]):
        mixed = parts.reduced([scaled(parts.own(r), by_rank[r]) for r in ranks])
        yield [scaled(mixed, 1 / scale) for scale in by_rank]


def step_skipped_by_one_rank(parts: Parts) -> Iterator[ByRank]:
    """Leaves one rank without a gradient, and gives the others the right one."""
    if parts.world == 1:
        return
    nothing = scaled(parts.right, 0.0)
    for skipping in range(parts.world):
        yield [nothing if rank == skipping else parts.right for rank in range(parts.world)]


def clipped_in_every_micro_batch(parts: Parts) -> Iterator[ByRank]:
    """Clips what is accumulated after every micro-batch: of each rank, or of the average."""
    ks = range(parts.question.micro_batches)
    if parts.adding in ("sample_mean", STEP_MEAN) or len(ks) == 1:
        return
    owns = [[parts.own(rank, [k]) for k in ks] for rank in range(parts.world)]
    yield parts.everywhere(parts.reduced([_accumulated(own) for own in owns]))
    yield parts.everywhere(
        _accumulated([parts.reduced([own[k] for own in owns]) for k in ks]),
    )


def _accumulated(by_micro_batch: list[Gradients]) -> Gradients:
    accumulated = scaled(by_micro_batch[0], 0.0)
    for gradients in by_micro_batch:
        accumulated = total([accumulated, gradients])
        accumulated = scaled(accumulated, 1 / max(norm_of(accumulated), 1.0))
    return accumulated


def norm_summed_over_replicas(parts: Parts) -> Iterator[ByRank]:
    """Clips by a norm to which each of several replicas adds its own squares."""
    if parts.question.observe == "clipped":
        norm = norm_of(parts.right)
        for size in divisors(parts.world):
            yield parts.everywhere(scaled(parts.right, 1 / max(norm * size**0.5, 1.0)))


def statistics_of_ranks_averaged(parts: Parts) -> Iterator[ByRank]:
    """Takes the mean of the ranks' means and variances for the whole batch's."""
    if parts.adding != "sample_mean" or parts.question.model != "batch_norm":
        return
    if not all(map(all, parts.question.shards)):
        return
    ranks = [
        np.repeat([1 / (parts.world * n) for n in counts], counts)
        for counts in parts.question.shards
    ]
    samples = [np.full(sum(counts), 1 / sum(counts)) for counts in parts.question.shards]
    for losses in (samples, ranks):
        yield parts.everywhere(
            total(
                [
                    parts.with_shares(k, own, of_losses)
                    for k, (own, of_losses) in enumerate(zip(ranks, losses, strict=True))
                ]
            )
        )


def _only(gradients: Gradients, names: set[str]) -> Gradients:
    return {name: values for name, values in gradients.items() if name in names}
