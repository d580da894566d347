"""What each known wrong way to average gradients makes of the parts of a right answer.

A wrong way has one or more answers: how far it went wrong may depend on what the code around it
did. An answer is one set of gradients for each rank.
"""

from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np

from conformance.core.dtypes import DTYPES
from conformance.gradient_mean.definition import STEP
from conformance.gradient_mean.noise import NOISY_PARAMETER, rows_of, samples_of
from conformance.gradient_mean.parts import ByRank, Gradients, Parts, scaled, total

Wrong = Callable[[Parts], Iterator[ByRank]]


def not_divided(parts: Parts) -> Iterator[ByRank]:
    """W times the mean."""
    if parts.is_mean:
        yield parts.everywhere(scaled(parts.right, parts.world))


def divided_twice(parts: Parts) -> Iterator[ByRank]:
    """1/W of the mean."""
    if parts.is_mean:
        yield parts.everywhere(scaled(parts.right, 1 / parts.world))


def squared_world(parts: Parts) -> Iterator[ByRank]:
    """W² times the mean."""
    if parts.is_mean:
        yield parts.everywhere(scaled(parts.right, parts.world**2))


def never_synchronised(parts: Parts) -> Iterator[ByRank]:
    """Each rank its own gradient."""
    yield [parts.own(rank) for rank in range(parts.world)]


def shard_0_returned(parts: Parts) -> Iterator[ByRank]:
    """Rank 0's own gradient everywhere."""
    yield parts.everywhere(parts.own(0))


def psum_loss_unsynchronised(parts: Parts) -> Iterator[ByRank]:
    """W times its own gradient on each rank, or that of rank 0 everywhere."""
    locals_ = [scaled(parts.own(rank), parts.world) for rank in range(parts.world)]
    yield locals_
    yield parts.everywhere(locals_[0])


def sum_loss(parts: Parts) -> Iterator[ByRank]:
    """Every shard counts n times as much, n its number of samples."""
    ks = range(parts.question.micro_batches)
    if parts.promise == "sample_mean":
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
    """1/K of it, or K times."""
    yield parts.everywhere(scaled(parts.right, 1 / parts.question.micro_batches))
    yield parts.everywhere(scaled(parts.right, parts.question.micro_batches))


def last_micro_batch_only(parts: Parts) -> Iterator[ByRank]:
    """The average over the last micro-batch."""
    last = parts.question.micro_batches - 1
    if parts.promise == "sample_mean":
        yield parts.everywhere(parts.part(last, slice(0, sum(parts.question.shards[last]))))
    else:
        yield parts.everywhere(
            parts.reduced([parts.own(rank, [last]) for rank in range(parts.world)])
        )


def no_sync_around_backward_only(parts: Parts) -> Iterator[ByRank]:
    """What is averaged already is averaged again, which shows where 1/W of it is rounded.

    Nobody promises in which order an all-reduce adds: of three terms there are three orders, which
    may change from element to element and from backward to backward.
    """
    if parts.promise != "rank_mean" or parts.question.micro_batches == 1:
        return
    held = [scaled(parts.right, 0.0)]
    for k in range(parts.question.micro_batches):
        owns = [parts.own(rank, [k]) for rank in range(parts.world)]
        held = [
            total([*shares[:last], *shares[last + 1 :], shares[last]])
            for before in held
            for shares in [[_share_of(parts, total([before, own])) for own in owns]]
            for last in range(parts.world if parts.world == 3 else 1)
        ]
    for one in held:
        yield parts.everywhere(one)


def _share_of(parts: Parts, gradients: Gradients) -> Gradients:
    """1/W of it in the question's dtype; a factor has the precision of float32 at least."""
    carrier = DTYPES[parts.question.dtype].carrier
    factor = float(np.promote_types(np.float32, carrier).type(1 / parts.world))
    return {
        name: (values.astype(carrier).astype(np.float64) * factor).astype(carrier)
        for name, values in gradients.items()
    }


def at_scale_alone(parts: Parts) -> Iterator[ByRank]:
    """Nothing where ranks are few; see `mistakes.virtual_ranks`."""
    del parts
    yield from ()


def pass_through(parts: Parts) -> Iterator[ByRank]:
    """The gradient of the whole batch, each sample of which counts the same."""
    if parts.promise != "sample_mean":
        wholes = [
            parts.part(k, slice(0, samples))
            for k, samples in enumerate(map(sum, parts.question.shards))
        ]
        yield parts.everywhere(total(wholes))


def shared_dropout_key(parts: Parts) -> Iterator[ByRank]:
    """Every sample has the noise of rank 0's sample at the same place."""
    if parts.question.observe != "noise":
        return
    right = parts.right[NOISY_PARAMETER]
    rows = rows_of(parts.question, right)
    places = list(samples_of(parts.question))
    kept = {place: row != 0 for (rank, place), row in zip(places, rows, strict=True) if rank == 0}
    shared = [
        np.where(kept.get(place, row != 0), np.max(np.abs(row)), 0)
        for (_, place), row in zip(places, rows, strict=True)
    ]
    yield parts.everywhere({**parts.right, NOISY_PARAMETER: np.reshape(shared, right.shape)})


def mean_of_means(parts: Parts) -> Iterator[ByRank]:
    """The mean of the ranks where that of the samples is promised."""
    if parts.promise == "sample_mean" and not _mixes_samples(parts):
        yield parts.everywhere(parts.reduced([parts.own(rank) for rank in range(parts.world)]))


def local_batch_statistics(parts: Parts) -> Iterator[ByRank]:
    """The same, or weighed by samples, where a batch norm makes a batch more than its parts."""
    if parts.promise == "sample_mean" and _mixes_samples(parts):
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
    """Whether a whole batch is more than its parts: batch statistics are not sums over samples."""
    return parts.question.model == "batch_norm"


def padding_counted(parts: Parts) -> Iterator[ByRank]:
    """A shard filled up in its length, or with samples of zeros; or a batch with its own head."""
    if parts.promise == "sample_mean" and _mixes_samples(parts):
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
    """The mean over a micro-batch that a sampler filled up with its own head."""
    samples = sum(parts.question.shards[k])
    missing = -samples % parts.world
    if missing > samples:
        return parts.part(k, slice(0, samples))
    whole = scaled(parts.part(k, slice(0, samples)), samples)
    head = scaled(parts.part(k, slice(0, missing)), missing)
    return scaled(total([whole, head]), 1 / (samples + missing))


def tail_dropped(parts: Parts) -> Iterator[ByRank]:
    """Every shard as short as the shortest, or the batch without its end."""
    if parts.promise == "sample_mean" and _mixes_samples(parts):
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
    if parts.promise == "sample_mean":
        for left in {sum(shards[0]) - 1, sum(shards[0]) // parts.world * parts.world}:
            yield parts.everywhere(
                total([parts.part(k, slice(0, left)) for k in range(len(shards))])
            )


def rank_missing(parts: Parts) -> Iterator[ByRank]:
    """Without one rank's gradient, divided by W or by the W − 1 that are left."""
    if parts.world == 1:
        yield parts.everywhere(scaled(parts.right, 0.0))
        return
    owns = [parts.own(rank) for rank in range(parts.world)]
    for missing in range(parts.world):
        rest = total([own for rank, own in enumerate(owns) if rank != missing])
        if not parts.is_mean:
            yield parts.everywhere(rest)
        elif parts.promise == "rank_mean":
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
    """Each rank with parameters of its own."""
    if parts.question.starts == "different" and parts.promise != "sample_mean":
        apart = [parts.own(rank, raised=float(rank)) for rank in range(parts.world)]
        mean = parts.reduced(apart)
        if parts.question.observe == "step":  # by which each rank goes from where it is
            yield [_seen_from(mean, float(rank)) for rank in range(parts.world)]
        else:
            yield parts.everywhere(mean)


def _seen_from(gradients: Gradients, raised: float) -> Gradients:
    """The gradients that would lead there in a step from rank 0's parameters."""
    return {name: values - raised / float(STEP) for name, values in gradients.items()}


def clipped_before_averaging(parts: Parts) -> Iterator[ByRank]:
    """The average of gradients of norm 1 at most; torch divides by a little more than the norm."""
    if parts.promise == "sample_mean":
        return
    for more in (0.0, 1e-6):
        clipped = []
        for rank in range(parts.world):
            own = parts.own(rank)
            norm = float(np.sqrt(sum(np.sum(values**2) for values in own.values())))
            clipped.append(scaled(own, 1 / max(norm + more, 1.0)))
        yield parts.everywhere(parts.reduced(clipped))


def compressed(parts: Parts) -> Iterator[ByRank]:
    """Through float16 or bfloat16 before the sum, after it, or both."""
    if parts.promise == "sample_mean" or parts.question.dtype in ("f16", "bf16"):
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
