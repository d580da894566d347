"""The known wrong ways to average gradients, each as what it makes of the parts of a right answer.

A wrong way has one or more answers: how far it went wrong may depend on what the code around it
did. An answer is one set of gradients for each rank.
"""

from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np

from conformance.mistakes.mistake import Mistake
from conformance.mistakes.work import ByRank, Gradients, Work, scaled, total

Wrong = Callable[[Work], Iterator[ByRank]]


def _not_divided(work: Work) -> Iterator[ByRank]:
    if work.is_mean:
        yield work.everywhere(scaled(work.right, work.world))


def _divided_twice(work: Work) -> Iterator[ByRank]:
    if work.is_mean:
        yield work.everywhere(scaled(work.right, 1 / work.world))


def _squared_world(work: Work) -> Iterator[ByRank]:
    if work.is_mean:
        yield work.everywhere(scaled(work.right, work.world**2))


def _never_synchronised(work: Work) -> Iterator[ByRank]:
    yield [work.own(rank) for rank in range(work.world)]


def _shard_0_returned(work: Work) -> Iterator[ByRank]:
    yield work.everywhere(work.own(0))


def _psum_loss_unsynchronised(work: Work) -> Iterator[ByRank]:
    locals_ = [scaled(work.own(rank), work.world) for rank in range(work.world)]
    yield locals_
    yield work.everywhere(locals_[0])


def _sum_loss(work: Work) -> Iterator[ByRank]:
    if work.question.reduction == "sum":
        return
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


def _accumulation_unscaled(work: Work) -> Iterator[ByRank]:
    yield work.everywhere(scaled(work.right, 1 / work.question.micro_batches))
    yield work.everywhere(scaled(work.right, work.question.micro_batches))


def _last_micro_batch_only(work: Work) -> Iterator[ByRank]:
    last = work.question.micro_batches - 1
    if work.promise == "sample_mean":
        yield work.everywhere(work.part(last, slice(0, sum(work.question.shards[last]))))
    else:
        yield work.everywhere(work.reduced([work.own(rank, [last]) for rank in range(work.world)]))


def _mean_of_means(work: Work) -> Iterator[ByRank]:
    if work.promise == "sample_mean" and not _mixes_samples(work):
        yield work.everywhere(work.reduced([work.own(rank) for rank in range(work.world)]))


def _local_batch_statistics(work: Work) -> Iterator[ByRank]:
    if work.promise == "sample_mean" and _mixes_samples(work):
        yield work.everywhere(work.reduced([work.own(rank) for rank in range(work.world)]))


def _mixes_samples(work: Work) -> bool:
    """Whether a whole batch is more than its parts: batch statistics are not sums over samples."""
    return work.question.model == "batch_norm"


def _padding_counted(work: Work) -> Iterator[ByRank]:
    if work.question.reduction == "sum" or _mixes_samples(work):
        return
    shards = work.question.shards
    filled = [
        total(
            [
                scaled(work.own(rank, [k]), shards[k][rank] / max(shards[k]))
                for k in range(len(shards))
            ]
        )
        for rank in range(work.world)
    ]
    yield work.everywhere(work.reduced(filled))
    if work.is_mean:
        repeated = [_with_head_repeated(work, k) for k in range(len(shards))]
        yield work.everywhere(total(repeated))


def _with_head_repeated(work: Work, k: int) -> Gradients:
    """The mean over a micro-batch that a sampler filled up with its own head."""
    samples = sum(work.question.shards[k])
    missing = -samples % work.world
    if missing > samples:
        return work.part(k, slice(0, samples))
    whole = scaled(work.part(k, slice(0, samples)), samples)
    head = scaled(work.part(k, slice(0, missing)), missing)
    return scaled(total([whole, head]), 1 / (samples + missing))


def _tail_dropped(work: Work) -> Iterator[ByRank]:
    if work.question.reduction == "sum" or _mixes_samples(work):
        return
    shards = work.question.shards
    if all(min(counts) for counts in shards):
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
        for left in {sum(shards[0]) - 1, sum(shards[0]) // work.world * work.world} - {0}:
            yield work.everywhere(total([work.part(k, slice(0, left)) for k in range(len(shards))]))


def _rank_missing(work: Work) -> Iterator[ByRank]:
    if work.world == 1:
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


def _initial_broadcast_missing(work: Work) -> Iterator[ByRank]:
    if work.question.starts == "different" and work.promise != "sample_mean":
        apart = [work.own(rank, raised=float(rank)) for rank in range(work.world)]
        yield work.everywhere(work.reduced(apart))


def _clipped_before_averaging(work: Work) -> Iterator[ByRank]:
    if work.promise == "sample_mean":
        return
    clipped = []
    for rank in range(work.world):
        own = work.own(rank)
        norm = float(np.sqrt(sum(np.sum(values**2) for values in own.values())))
        clipped.append(scaled(own, 1 / max(norm, 1.0)))
    yield work.everywhere(work.reduced(clipped))


def _compressed(work: Work) -> Iterator[ByRank]:
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


def _mistake(name: str, done: str, advice: str, wrong: Wrong, seen: str = "") -> Mistake[Wrong]:
    return Mistake(name, "gradient_mean", done, advice, wrong, seen)


MISTAKES: tuple[Mistake[Wrong], ...] = (
    _mistake(
        "not-divided",
        "the ranks' gradients are summed and not divided by W",
        "Divide by the world size once, after the all-reduce or before; in shard_map with "
        "check_vma=True the gradient of a replicated parameter is summed already, so average the "
        "loss, or pcast the parameters to varying before you pmean the gradient.",
        _not_divided,
    ),
    _mistake(
        "divided-twice",
        "the mean is divided by W once more",
        "DDP and pmean divide already: do not divide the loss or the gradient by W as well.",
        _divided_twice,
    ),
    _mistake(
        "squared-world",
        "what was summed over ranks already is summed again: W² times the mean",
        "In shard_map with check_vma=True a psum of the gradient sums it a second time.",
        _squared_world,
    ),
    _mistake(
        "never-synchronised",
        "every rank holds its own gradient",
        "Call the DDP wrapper, not .module; leave no_sync before the last forward; or all-reduce "
        "the gradients yourself.",
        _never_synchronised,
    ),
    _mistake(
        "shard-0-returned",
        "all ranks hold the gradient of rank 0's shard",
        "All-reduce the gradients; a broadcast is none, and out_specs=P() with check_vma=False "
        "returns what shard 0 has.",
        _shard_0_returned,
    ),
    _mistake(
        "psum-loss-unsynchronised",
        "a rank's own gradient, W times: that of a loss that was summed over ranks",
        "Differentiate the local loss and pmean its gradient; the gradient of a psum inside pmap "
        "is not synchronised.",
        _psum_loss_unsynchronised,
    ),
    _mistake(
        "sum-loss",
        "the loss sums over the samples where it is to average",
        'Use reduction="mean", or divide by the number of samples.',
        _sum_loss,
    ),
    _mistake(
        "accumulation-unscaled",
        "the gradient is divided by K, or multiplied, against what is promised",
        "Micro-batches add up here: divide the loss by K only where a mean over micro-batches is "
        "asked for.",
        _accumulation_unscaled,
    ),
    _mistake(
        "last-micro-batch-only",
        "only the last micro-batch counts",
        "Set gradients to zero once, before the first micro-batch, and add up.",
        _last_micro_batch_only,
    ),
    _mistake(
        "mean-of-means",
        "every rank weighs the same where every sample is to",
        "Weigh each rank's loss by its number of samples, divided by that of all.",
        _mean_of_means,
    ),
    _mistake(
        "padding-counted",
        "samples that only fill up a shard are counted",
        "Divide by the number of real samples: psum of the sums over psum of the counts.",
        _padding_counted,
    ),
    _mistake(
        "tail-dropped",
        "samples at the end of a shard or of the batch are left out",
        "Look at drop_last, at integer division of the batch size, and at inputs of unequal "
        "length, the shortest of which decides.",
        _tail_dropped,
    ),
    _mistake(
        "rank-missing",
        "one rank's share is absent",
        "See that every rank of the group takes part in the all-reduce, and what a loop over "
        "ranks begins with.",
        _rank_missing,
    ),
    _mistake(
        "initial-broadcast-missing",
        "ranks compute their gradients with parameters of their own",
        "Broadcast rank 0's parameters and buffers before the first step.",
        _initial_broadcast_missing,
    ),
    _mistake(
        "clipped-before-averaging",
        "every rank's gradient is clipped to norm 1, and then averaged",
        "Clip the averaged gradient.",
        _clipped_before_averaging,
    ),
    _mistake(
        "compressed",
        "gradients went through float16 or bfloat16 on their way between ranks",
        "Leave out the compression hook, or accept what it does to small and large gradients.",
        _compressed,
    ),
    _mistake(
        "local-batch-statistics",
        "batch norms use their rank's statistics where those of the whole batch are promised",
        "Use SyncBatchNorm, or reduce mean and variance over the ranks.",
        _local_batch_statistics,
    ),
)
