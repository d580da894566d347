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
from conformance.gradient_mean.parts import ByRank, Gradients, Work, scaled, total

Wrong = Callable[[Work], Iterator[ByRank]]


def not_divided(work: Work) -> Iterator[ByRank]:
    """W times the mean."""
    if work.is_mean:
        yield work.everywhere(scaled(work.right, work.world))


def divided_twice(work: Work) -> Iterator[ByRank]:
    """1/W of the mean."""
    if work.is_mean:
        yield work.everywhere(scaled(work.right, 1 / work.world))


def squared_world(work: Work) -> Iterator[ByRank]:
    """W² times the mean."""
    if work.is_mean:
        yield work.everywhere(scaled(work.right, work.world**2))


def never_synchronised(work: Work) -> Iterator[ByRank]:
    """Each rank its own gradient."""
    yield [work.own(rank) for rank in range(work.world)]


def shard_0_returned(work: Work) -> Iterator[ByRank]:
    """Rank 0's own gradient everywhere."""
    yield work.everywhere(work.own(0))


def psum_loss_unsynchronised(work: Work) -> Iterator[ByRank]:
    """W times its own gradient on each rank, or that of rank 0 everywhere."""
    locals_ = [scaled(work.own(rank), work.world) for rank in range(work.world)]
    yield locals_
    yield work.everywhere(locals_[0])


def sum_loss(work: Work) -> Iterator[ByRank]:
    """Every shard counts n times as much, n its number of samples."""
    ks = range(work.question.micro_batches)
    if work.promise == "sample_mean":
        wholes = [
            scaled(work.part(k, slice(0, samples)), samples)
            for k, samples in enumerate(map(sum, work.question.shards))
        ]
        yield work.everywhere(total(wholes))
        yield work.everywhere(scaled(total(wholes), 1 / work.world))
        return
    sums = [
        total([scaled(work.own(rank, [k]), work.question.shards[k][rank]) for k in ks])
        for rank in range(work.world)
    ]
    yield work.everywhere(work.reduced(sums))


def accumulation_unscaled(work: Work) -> Iterator[ByRank]:
    """1/K of it, or K times."""
    yield work.everywhere(scaled(work.right, 1 / work.question.micro_batches))
    yield work.everywhere(scaled(work.right, work.question.micro_batches))


def last_micro_batch_only(work: Work) -> Iterator[ByRank]:
    """The average over the last micro-batch."""
    last = work.question.micro_batches - 1
    if work.promise == "sample_mean":
        yield work.everywhere(work.part(last, slice(0, sum(work.question.shards[last]))))
    else:
        yield work.everywhere(work.reduced([work.own(rank, [last]) for rank in range(work.world)]))


def no_sync_around_backward_only(work: Work) -> Iterator[ByRank]:
    """What is averaged already is averaged again, which shows where 1/W of it is rounded.

    Nobody promises in which order an all-reduce adds: of three terms there are three orders, which
    may change from element to element and from backward to backward.
    """
    if work.promise != "rank_mean" or work.question.micro_batches == 1:
        return
    held = [scaled(work.right, 0.0)]
    for k in range(work.question.micro_batches):
        owns = [work.own(rank, [k]) for rank in range(work.world)]
        held = [
            total([*shares[:last], *shares[last + 1 :], shares[last]])
            for before in held
            for shares in [[_share_of(work, total([before, own])) for own in owns]]
            for last in range(work.world if work.world == 3 else 1)
        ]
    for one in held:
        yield work.everywhere(one)


def _share_of(work: Work, gradients: Gradients) -> Gradients:
    """1/W of it in the question's dtype; a factor has the precision of float32 at least."""
    carrier = DTYPES[work.question.dtype].carrier
    factor = float(np.promote_types(np.float32, carrier).type(1 / work.world))
    return {
        name: (values.astype(carrier).astype(np.float64) * factor).astype(carrier)
        for name, values in gradients.items()
    }


def at_scale_alone(work: Work) -> Iterator[ByRank]:
    """Nothing where ranks are few; see `mistakes.virtual_ranks`."""
    del work
    yield from ()


def pass_through(work: Work) -> Iterator[ByRank]:
    """The gradient of the whole batch, each sample of which counts the same."""
    if work.promise != "sample_mean":
        wholes = [
            work.part(k, slice(0, samples))
            for k, samples in enumerate(map(sum, work.question.shards))
        ]
        yield work.everywhere(total(wholes))


def shared_dropout_key(work: Work) -> Iterator[ByRank]:
    """Every sample has the noise of rank 0's sample at the same place."""
    if work.question.observe != "noise":
        return
    right = work.right[NOISY_PARAMETER]
    rows = rows_of(work.question, right)
    places = list(samples_of(work.question))
    kept = {place: row != 0 for (rank, place), row in zip(places, rows, strict=True) if rank == 0}
    shared = [
        np.where(kept.get(place, row != 0), np.max(np.abs(row)), 0)
        for (_, place), row in zip(places, rows, strict=True)
    ]
    yield work.everywhere({**work.right, NOISY_PARAMETER: np.reshape(shared, right.shape)})


def mean_of_means(work: Work) -> Iterator[ByRank]:
    """The mean of the ranks where that of the samples is promised."""
    if work.promise == "sample_mean" and not _mixes_samples(work):
        yield work.everywhere(work.reduced([work.own(rank) for rank in range(work.world)]))


def local_batch_statistics(work: Work) -> Iterator[ByRank]:
    """The same, or weighed by samples, where a batch norm makes a batch more than its parts."""
    if work.promise == "sample_mean" and _mixes_samples(work):
        yield work.everywhere(work.reduced([work.own(rank) for rank in range(work.world)]))
        yield work.everywhere(
            total(
                [
                    scaled(work.own(rank, [k]), count / sum(counts))
                    for k, counts in enumerate(work.question.shards)
                    for rank, count in enumerate(counts)
                ]
            )
        )


def _mixes_samples(work: Work) -> bool:
    """Whether a whole batch is more than its parts: batch statistics are not sums over samples."""
    return work.question.model == "batch_norm"


def padding_counted(work: Work) -> Iterator[ByRank]:
    """A shard filled up in its length, or with samples of zeros; or a batch with its own head."""
    if work.promise == "sample_mean" and _mixes_samples(work):
        return
    shards = work.question.shards
    ks = range(len(shards))
    longer = [
        total([scaled(work.own(rank, [k]), shards[k][rank] / max(shards[k])) for k in ks])
        for rank in range(work.world)
    ]
    yield work.everywhere(work.reduced(longer))
    if work.question.observe != "noise":
        filled = [total([work.filled(rank, k) for k in ks]) for rank in range(work.world)]
        yield work.everywhere(work.reduced(filled))
    if work.is_mean and work.question.reduction == "mean":
        yield work.everywhere(total([_with_head_repeated(work, k) for k in ks]))


def _with_head_repeated(work: Work, k: int) -> Gradients:
    """The mean over a micro-batch that a sampler filled up with its own head."""
    samples = sum(work.question.shards[k])
    missing = -samples % work.world
    if missing > samples:
        return work.part(k, slice(0, samples))
    whole = scaled(work.part(k, slice(0, samples)), samples)
    head = scaled(work.part(k, slice(0, missing)), missing)
    return scaled(total([whole, head]), 1 / (samples + missing))


def tail_dropped(work: Work) -> Iterator[ByRank]:
    """Every shard as short as the shortest, or the batch without its end."""
    if work.promise == "sample_mean" and _mixes_samples(work):
        return
    shards = work.question.shards
    cut = [
        total(
            [
                work.part(
                    k, slice(work.span(rank, k).start, work.span(rank, k).start + min(counts))
                )
                for k, counts in enumerate(shards)
            ]
        )
        for rank in range(work.world)
    ]
    yield work.everywhere(work.reduced(cut))
    if work.promise == "sample_mean":
        for left in {sum(shards[0]) - 1, sum(shards[0]) // work.world * work.world}:
            yield work.everywhere(total([work.part(k, slice(0, left)) for k in range(len(shards))]))


def rank_missing(work: Work) -> Iterator[ByRank]:
    """Without one rank's gradient, divided by W or by the W − 1 that are left."""
    if work.world == 1:
        yield work.everywhere(scaled(work.right, 0.0))
        return
    owns = [work.own(rank) for rank in range(work.world)]
    for missing in range(work.world):
        rest = total([own for rank, own in enumerate(owns) if rank != missing])
        if not work.is_mean:
            yield work.everywhere(rest)
        elif work.promise == "rank_mean":
            yield work.everywhere(scaled(rest, 1 / work.world))
            yield work.everywhere(scaled(rest, 1 / (work.world - 1)))
        elif work.question.reduction == "mean":
            yield work.everywhere(_samples_of_others(work, missing))


def _samples_of_others(work: Work, missing: int) -> Gradients:
    terms = []
    for k, counts in enumerate(work.question.shards):
        rest = sum(counts) - counts[missing]
        terms += [
            scaled(work.own(rank, [k]), counts[rank] / max(rest, 1))
            for rank in range(work.world)
            if rank != missing
        ]
    return total(terms)


def initial_broadcast_missing(work: Work) -> Iterator[ByRank]:
    """Each rank with parameters of its own."""
    if work.question.starts == "different" and work.promise != "sample_mean":
        apart = [work.own(rank, raised=float(rank)) for rank in range(work.world)]
        mean = work.reduced(apart)
        if work.question.observe == "step":  # by which each rank goes from where it is
            yield [_seen_from(mean, float(rank)) for rank in range(work.world)]
        else:
            yield work.everywhere(mean)


def _seen_from(gradients: Gradients, raised: float) -> Gradients:
    """The gradients that would lead there in a step from rank 0's parameters."""
    return {name: values - raised / float(STEP) for name, values in gradients.items()}


def clipped_before_averaging(work: Work) -> Iterator[ByRank]:
    """The average of gradients of norm 1 at most; torch divides by a little more than the norm."""
    if work.promise == "sample_mean":
        return
    for more in (0.0, 1e-6):
        clipped = []
        for rank in range(work.world):
            own = work.own(rank)
            norm = float(np.sqrt(sum(np.sum(values**2) for values in own.values())))
            clipped.append(scaled(own, 1 / max(norm + more, 1.0)))
        yield work.everywhere(work.reduced(clipped))


def compressed(work: Work) -> Iterator[ByRank]:
    """Through float16 or bfloat16 before the sum, after it, or both."""
    if work.promise == "sample_mean" or work.question.dtype in ("f16", "bf16"):
        return
    for dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
        owns = [work.own(rank) for rank in range(work.world)]
        share = 1 / work.world if work.is_mean else 1.0
        with np.errstate(over="ignore"):
            before = [_through(dtype, scaled(own, share)) for own in owns]
            after = [_through(dtype, own) for own in owns]
        yield work.everywhere(total(before))
        yield work.everywhere(_through(dtype, total(before)))
        yield work.everywhere(scaled(total(after), share))


def _through(dtype: np.dtype, gradients: Gradients) -> Gradients:
    return {name: values.astype(dtype).astype(np.float64) for name, values in gradients.items()}
