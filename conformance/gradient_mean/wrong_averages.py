"""The wrong averages of the known mistakes, from the parts of a right average.

A mistake has one or more answers, since the code around it may vary. An answer is a set of
gradients for each rank.
"""

from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np

from conformance.core.declarations import STEP_MEAN
from conformance.core.dtypes import DTYPES
from conformance.gradient_mean import wrong_steps
from conformance.gradient_mean.definition import STEP
from conformance.gradient_mean.noise import NOISY_PARAMETER, rows_of, samples_of
from conformance.gradient_mean.parts import ByRank, Gradients, Parts, norm_of, scaled, total

Wrong = Callable[[Parts], Iterator[ByRank]]


def not_divided(parts: Parts) -> Iterator[ByRank]:
    """Yields W times the mean; in the mean over a step's items that is `world_left_in`."""
    if parts.is_mean and parts.promise != STEP_MEAN:
        yield parts.everywhere(scaled(parts.right, parts.world))


def divided_twice(parts: Parts) -> Iterator[ByRank]:
    """Yields 1/W of the mean; of a coupled loss that is `gathered_without_gradient`."""
    if parts.is_mean and parts.question.loss != "coupled":
        yield parts.everywhere(scaled(parts.right, 1 / parts.world))


def squared_world(parts: Parts) -> Iterator[ByRank]:
    """Yields W² times the mean."""
    if parts.is_mean:
        yield parts.everywhere(scaled(parts.right, parts.world**2))


def never_synchronised(parts: Parts) -> Iterator[ByRank]:
    """Yields each rank's own gradient."""
    yield [parts.own(rank) for rank in range(parts.world)]
    if parts.promise == STEP_MEAN:
        # Without the factor W, or divided by what the rank itself has.
        yield [scaled(parts.own(rank), 1 / parts.world) for rank in range(parts.world)]
        yield [_own_mean(parts, rank) for rank in range(parts.world)]


def _own_mean(parts: Parts, rank: int) -> Gradients:
    """Returns the mean over the items that the rank has in the step."""
    items = parts.items[:, rank].sum()
    return scaled(parts.own(rank), parts.items.sum() / parts.world / items if items else 0.0)


def shard_0_returned(parts: Parts) -> Iterator[ByRank]:
    """Yields rank 0's own gradient on all ranks."""
    yield parts.everywhere(parts.own(0))
    if parts.promise == STEP_MEAN:
        yield parts.everywhere(scaled(parts.own(0), 1 / parts.world))
        yield parts.everywhere(_own_mean(parts, 0))


def psum_loss_unsynchronised(parts: Parts) -> Iterator[ByRank]:
    """Yields W times each rank's own gradient, or W times rank 0's on all ranks."""
    if parts.promise == STEP_MEAN:
        return
    locals_ = [scaled(parts.own(rank), parts.world) for rank in range(parts.world)]
    yield locals_
    yield parts.everywhere(locals_[0])


def sum_loss(parts: Parts) -> Iterator[ByRank]:
    """Weighs every shard by its number of samples, once more."""
    ks = range(parts.question.micro_batches)
    if parts.promise == STEP_MEAN:
        for divisor in sorted({1, parts.world, len(ks), parts.world * len(ks)}):
            yield parts.everywhere(scaled(parts.right, parts.items.sum() / divisor))
        return
    if parts.adding == "sample_mean":
        wholes = [
            scaled(parts.part(k, slice(0, samples)), samples)
            for k, samples in enumerate(map(sum, parts.question.shards))
        ]
        yield parts.everywhere(total(wholes))
        yield parts.everywhere(scaled(total(wholes), 1 / parts.world))
        return
    sums = [
        total([scaled(parts.own(rank, [k]), parts.question.shards[k][rank]) for k in ks])
        for rank in range(parts.world)
    ]
    yield parts.everywhere(parts.reduced(sums))


def accumulation_unscaled(parts: Parts) -> Iterator[ByRank]:
    """Divides or multiplies the right answer by K."""
    yield parts.everywhere(scaled(parts.right, 1 / parts.question.micro_batches))
    if parts.promise != STEP_MEAN:
        yield parts.everywhere(scaled(parts.right, parts.question.micro_batches))


def last_micro_batch_only(parts: Parts) -> Iterator[ByRank]:
    """Yields the average over the last micro-batch."""
    last = parts.question.micro_batches - 1
    if parts.adding == "sample_mean":
        yield parts.everywhere(parts.part(last, slice(0, sum(parts.question.shards[last]))))
    else:
        alone = parts.reduced([parts.own(rank, [last]) for rank in range(parts.world)])
        yield parts.everywhere(alone)
        if parts.promise == STEP_MEAN:
            items = parts.items[last].sum()
            yield parts.everywhere(scaled(alone, parts.items.sum() / items if items else 0.0))
        elif parts.adding != parts.promise:
            yield parts.everywhere(scaled(alone, parts.question.micro_batches))


def no_sync_around_backward_only(parts: Parts) -> Iterator[ByRank]:
    """Averages again what is averaged already, which shows where 1/W of a gradient is rounded.

    No library promises in which order an all-reduce adds: three terms have three orders, which may
    change from element to element and from backward to backward.
    """
    if parts.adding != "rank_mean" or parts.question.micro_batches == 1:
        return
    alternatives = [scaled(parts.right, 0.0)]
    for k in range(parts.question.micro_batches):
        owns = [parts.own(rank, [k]) for rank in range(parts.world)]
        alternatives = [
            total([*shares[:last], *shares[last + 1 :], shares[last]])
            for before in alternatives
            for shares in [[_share_of(parts, total([before, own])) for own in owns]]
            for last in range(parts.world if parts.world == 3 else 1)
        ]
    for gradients in alternatives:
        yield parts.everywhere(gradients)


def _share_of(parts: Parts, gradients: Gradients) -> Gradients:
    """Takes 1/W in the question's dtype; a factor has the precision of float32 at least."""
    carrier = DTYPES[parts.question.dtype].carrier
    factor = float(np.promote_types(np.float32, carrier).type(1 / parts.world))
    return {
        name: (values.astype(carrier).astype(np.float64) * factor).astype(carrier)
        for name, values in gradients.items()
    }


def at_scale_alone(parts: Parts) -> Iterator[ByRank]:
    """Yields no answer; `virtual_mistakes` has the answers with many ranks."""
    del parts
    yield from ()


def pass_through(parts: Parts) -> Iterator[ByRank]:
    """Yields the gradient of the whole batch, where every sample counts the same."""
    if parts.adding not in ("sample_mean", STEP_MEAN):
        wholes = [
            parts.part(k, slice(0, samples))
            for k, samples in enumerate(map(sum, parts.question.shards))
        ]
        yield parts.everywhere(total(wholes))


def shared_dropout_key(parts: Parts) -> Iterator[ByRank]:
    """Gives every sample the noise of rank 0's sample at the same place."""
    if parts.question.observe != "noise":
        return
    right = parts.right[NOISY_PARAMETER]
    rows = rows_of(parts.question, right)
    places = list(samples_of(parts.question))
    masks = {place: row != 0 for (rank, place), row in zip(places, rows, strict=True) if rank == 0}
    shared = [
        np.where(masks.get(place, row != 0), np.max(np.abs(row)), 0)
        for (_, place), row in zip(places, rows, strict=True)
    ]
    yield parts.everywhere({**parts.right, NOISY_PARAMETER: np.reshape(shared, right.shape)})


def mean_of_means(parts: Parts) -> Iterator[ByRank]:
    """Yields the mean of the ranks where the mean of the samples is promised."""
    if parts.adding == "sample_mean" and not _mixes_samples(parts):
        yield parts.everywhere(parts.reduced([parts.own(rank) for rank in range(parts.world)]))


def local_batch_statistics(parts: Parts) -> Iterator[ByRank]:
    """Averages ranks, equally or by samples, where a batch norm couples a batch's samples."""
    if parts.adding == "sample_mean" and _mixes_samples(parts):
        yield parts.everywhere(parts.reduced([parts.own(rank) for rank in range(parts.world)]))
        yield parts.everywhere(
            total(
                [
                    scaled(parts.own(rank, [k]), count / sum(counts))
                    for k, counts in enumerate(parts.question.shards)
                    for rank, count in enumerate(counts)
                ]
            )
        )


def _mixes_samples(parts: Parts) -> bool:
    """Says whether samples of a batch are coupled: batch statistics are no sums over samples."""
    return parts.question.model == "batch_norm"


def padding_counted(parts: Parts) -> Iterator[ByRank]:
    """Pads a shard's length, or a shard with zeros, or a batch with its own head."""
    if parts.promise == STEP_MEAN:
        yield from wrong_steps.padding_counted(parts)
        return
    if parts.adding == "sample_mean" and _mixes_samples(parts):
        return
    shards = parts.question.shards
    ks = range(len(shards))
    longer = [
        total([scaled(parts.own(rank, [k]), shards[k][rank] / max(shards[k])) for k in ks])
        for rank in range(parts.world)
    ]
    yield parts.everywhere(parts.reduced(longer))
    if parts.question.observe != "noise":
        filled = [total([parts.filled(rank, k) for k in ks]) for rank in range(parts.world)]
        yield parts.everywhere(parts.reduced(filled))
    if parts.is_mean and parts.question.reduction == "mean":
        yield parts.everywhere(total([_with_head_repeated(parts, k) for k in ks]))


def _with_head_repeated(parts: Parts, k: int) -> Gradients:
    """Averages over a micro-batch that a sampler padded with its own head."""
    samples = sum(parts.question.shards[k])
    missing = -samples % parts.world
    if missing > samples:
        return parts.part(k, slice(0, samples))
    whole = scaled(parts.part(k, slice(0, samples)), samples)
    head = scaled(parts.part(k, slice(0, missing)), missing)
    return scaled(total([whole, head]), 1 / (samples + missing))


def tail_dropped(parts: Parts) -> Iterator[ByRank]:
    """Cuts every shard to the shortest, or the end off the batch."""
    if (parts.adding == "sample_mean" and _mixes_samples(parts)) or parts.promise == STEP_MEAN:
        return
    shards = parts.question.shards
    cut = [
        total(
            [
                parts.part(
                    k, slice(parts.span(rank, k).start, parts.span(rank, k).start + min(counts))
                )
                for k, counts in enumerate(shards)
            ]
        )
        for rank in range(parts.world)
    ]
    yield parts.everywhere(parts.reduced(cut))
    if parts.adding == "sample_mean":
        for length in {sum(shards[0]) - 1, sum(shards[0]) // parts.world * parts.world}:
            yield parts.everywhere(
                total([parts.part(k, slice(0, length)) for k in range(len(shards))])
            )


def rank_missing(parts: Parts) -> Iterator[ByRank]:
    """Leaves out a rank's gradient, and divides by W or by W − 1."""
    if parts.world == 1:
        yield parts.everywhere(scaled(parts.right, 0.0))
        return
    owns = [parts.own(rank) for rank in range(parts.world)]
    for missing in range(parts.world):
        rest = total([own for rank, own in enumerate(owns) if rank != missing])
        if not parts.is_mean:
            yield parts.everywhere(rest)
        elif parts.promise == STEP_MEAN:
            yield parts.everywhere(scaled(rest, 1 / parts.world))
            others = parts.items.sum() - parts.items[:, missing].sum()
            factor = parts.items.sum() / others / parts.world if others else 0.0
            yield parts.everywhere(scaled(rest, factor))
        elif parts.adding == "rank_mean":
            yield parts.everywhere(scaled(rest, 1 / parts.world))
            yield parts.everywhere(scaled(rest, 1 / (parts.world - 1)))
        elif parts.question.reduction == "mean":
            yield parts.everywhere(_samples_of_others(parts, missing))


def _samples_of_others(parts: Parts, missing: int) -> Gradients:
    terms = []
    for k, counts in enumerate(parts.question.shards):
        rest = sum(counts) - counts[missing]
        terms += [
            scaled(parts.own(rank, [k]), counts[rank] / max(rest, 1))
            for rank in range(parts.world)
            if rank != missing
        ]
    return total(terms)


def initial_broadcast_missing(parts: Parts) -> Iterator[ByRank]:
    """Averages gradients of ranks that each have other parameters."""
    if (apart := parts.without_broadcast) is not None:
        yield seen_from_own(apart, apart.everywhere(apart.right))


def seen_from_own(parts: Parts, by_rank: ByRank) -> ByRank:
    """Returns gradients that lead from rank 0's parameters to where a step leads from a rank's own.

    Where ranks show gradients, and not what a step makes of their parameters, these are the same.
    """
    if parts.question.observe != "step":
        return by_rank
    return [
        {name: values - rank / float(STEP) for name, values in gradients.items()}
        for rank, gradients in enumerate(by_rank)
    ]


def clipped_before_averaging(parts: Parts) -> Iterator[ByRank]:
    """Clips gradients to norm 1, then averages; torch divides by a little more than the norm."""
    if parts.adding in ("sample_mean", STEP_MEAN):
        return
    for epsilon in (0.0, 1e-6):
        clipped = []
        for rank in range(parts.world):
            own = parts.own(rank)
            clipped.append(scaled(own, 1 / max(norm_of(own) + epsilon, 1.0)))
        yield parts.everywhere(parts.reduced(clipped))


def compressed(parts: Parts) -> Iterator[ByRank]:
    """Rounds to float16 or bfloat16 before the sum, after the sum, or both."""
    if parts.adding == "sample_mean" or parts.question.dtype in ("f16", "bf16"):
        return
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        owns = [parts.own(rank) for rank in range(parts.world)]
        share = 1 / parts.world if parts.is_mean else 1.0
        with np.errstate(over="ignore"):
            before = [_through(dtype, scaled(own, share)) for own in owns]
            after = [_through(dtype, own) for own in owns]
        yield parts.everywhere(total(before))
        yield parts.everywhere(_through(dtype, total(before)))
        yield parts.everywhere(scaled(total(after), share))


def _through(dtype: np.dtype, gradients: Gradients) -> Gradients:
    return {name: values.astype(dtype).astype(np.float64) for name, values in gradients.items()}
