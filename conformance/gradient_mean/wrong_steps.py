"""The wrong means over a whole step's items, and what else goes wrong between micro-batches.

A rank's gradient of a micro-batch, as `Parts.own` has it, is W/N of the sum over its items, so that
the mean of ranks is the mean over the step. Its own mean is then N/(W·n) of that.
"""

from collections.abc import Iterator

import numpy as np

from conformance.core.declarations import STEP_MEAN
from conformance.gradient_mean.parts import ByRank, Gradients, Parts, has_items, scaled, total


def mean_of_micro_means(parts: Parts) -> Iterator[ByRank]:
    """Averages the micro-batches' own means: of all ranks' items, or of each rank's."""
    if parts.promise != STEP_MEAN or parts.question.micro_batches == 1:
        return
    k = parts.question.micro_batches
    yield parts.everywhere(_weighed(parts, parts.items.sum(1, keepdims=True) * k))
    yield parts.everywhere(_weighed(parts, parts.items * parts.world * k))
    # The same without its division by K.
    yield parts.everywhere(_weighed(parts, parts.items * parts.world))
    yield parts.everywhere(_weighed(parts, parts.items.sum(1, keepdims=True)))


def local_count(parts: Parts) -> Iterator[ByRank]:
    """Divides each rank's sum by the rank's own items, then averages ranks."""
    if parts.promise == STEP_MEAN and parts.world > 1:
        yield parts.everywhere(_weighed(parts, parts.items.sum(0, keepdims=True) * parts.world))


def one_count_for_all_terms(parts: Parts) -> Iterator[ByRank]:
    """Divides each term of a loss by one count, or one term by what its ranks have themselves."""
    terms = parts.by_term if parts.question.terms else ()
    counts = [float(term.items.sum()) for term in terms]
    for count in sorted({*counts, sum(counts)} - {0.0}):
        own = [scaled(t.right, n / count) for t, n in zip(terms, counts, strict=True)]
        yield parts.everywhere(total(own))
    for term in terms:
        others = [other.right for other in terms if other is not term]
        for way in (local_count, mean_of_micro_means):
            yield from (parts.everywhere(total([*others, own[0]])) for own in way(term))


def sample_share_for_token_share(parts: Parts) -> Iterator[ByRank]:
    """Weighs the means of ranks and micro-batches by their samples."""
    if parts.promise != STEP_MEAN:
        return
    for samples in (np.array(parts.question.shards, float), parts.sequences):
        if not samples.any() or _is_alike(samples, parts.items):
            continue
        share = samples / samples.sum()
        yield parts.everywhere(_weighed(parts, parts.items / np.where(share, share, 1)))
        by_rank = samples / np.maximum(samples.sum(1, keepdims=True), 1)
        yield parts.everywhere(
            _weighed(
                parts,
                parts.items / np.where(by_rank, by_rank, 1) * parts.question.micro_batches,
            )
        )


def other_windows_count(parts: Parts) -> Iterator[ByRank]:
    """Divides by what another window has: the last window, or the first or last micro-batch."""
    if parts.promise != STEP_MEAN:
        return
    by_k = parts.items.sum(1)
    if parts.before is not None:
        yield parts.everywhere(scaled(parts.right, by_k.sum() / parts.before.items.sum()))
    if parts.question.micro_batches == 1:
        return
    for count in (by_k[0], by_k[-1], by_k[0] * len(by_k), by_k[-1] * len(by_k)):
        if count not in (0, by_k.sum()):
            yield parts.everywhere(scaled(parts.right, by_k.sum() / count))


def stale_gradient(parts: Parts) -> Iterator[ByRank]:
    """Adds the last window's gradient to this one's, or yields it in place of this one's."""
    if parts.before is not None:
        yield parts.everywhere(total([parts.right, parts.before.right]))
        yield parts.everywhere(parts.before.right)
        # Ranks average what they have accumulated, of which the last window is averaged already.
        rank_by_rank = [total([parts.own(rank), parts.before.right]) for rank in range(parts.world)]
        yield parts.everywhere(parts.reduced(rank_by_rank))
        earlier = parts.before.before
        if earlier is not None:
            yield parts.everywhere(total([parts.right, parts.before.right, earlier.right]))


def short_window_divided_by_k(parts: Parts) -> Iterator[ByRank]:
    """Divides by the number of micro-batches that a whole window has, where this one has fewer."""
    own, whole = parts.question.micro_batches, max(parts.asked.windows, default=0)
    if own < whole and parts.adding != parts.promise:
        yield parts.everywhere(scaled(parts.right, own / whole))


def shifted_labels_counted(parts: Parts) -> Iterator[ByRank]:
    """Counts the position of every sequence that has no next token, too."""
    if parts.promise == STEP_MEAN and parts.question.items == "tokens":
        n = parts.items.sum()
        for sequences in (np.sum(parts.question.shards), parts.sequences.sum()):
            yield parts.everywhere(scaled(parts.right, n / (n + sequences)))


def world_left_in(parts: Parts) -> Iterator[ByRank]:
    """Multiplies by W, where nobody divides by it."""
    if parts.promise == STEP_MEAN:
        yield parts.everywhere(scaled(parts.right, parts.world))


def micro_batches_left_in(parts: Parts) -> Iterator[ByRank]:
    """Multiplies by K, where nobody divides by it."""
    if parts.promise == STEP_MEAN:
        yield parts.everywhere(scaled(parts.right, parts.question.micro_batches))


def synchronised_too_early(parts: Parts) -> Iterator[ByRank]:
    """Averages the first micro-batch over ranks, and leaves each rank what follows."""
    if parts.adding == "sample_mean" or parts.question.micro_batches == 1:
        return
    ranks, later = range(parts.world), range(1, parts.question.micro_batches)
    first = parts.reduced([parts.own(rank, [0]) for rank in ranks])
    yield [total([first, parts.own(rank, later)]) for rank in ranks]


def gathered_without_gradient(parts: Parts) -> Iterator[ByRank]:
    """Yields 1/W of a loss that couples ranks: each rank's outputs have but its own gradient."""
    if parts.question.loss == "coupled" and parts.adding == "sample_mean":
        yield parts.everywhere(scaled(parts.right, 1 / parts.world))


def padding_counted(parts: Parts) -> Iterator[ByRank]:
    """Divides by all places, masked or not, of the step or of each rank and micro-batch."""
    counts = np.array(parts.question.shards, float)
    if parts.question.items == "tokens":
        counts *= len(parts.inputs["weights/0"][0])
    yield parts.everywhere(scaled(parts.right, parts.items.sum() / counts.sum()))
    k = parts.question.micro_batches
    # A shard's mean over its places, of which the mean is taken.
    yield parts.everywhere(_weighed(parts, counts * parts.world))
    yield parts.everywhere(_weighed(parts, counts * parts.world * k))
    yield parts.everywhere(parts.unmasked(np.ones_like))
    yield parts.everywhere(parts.unmasked(_of_whole_sequences))


def _of_whole_sequences(weights: np.ndarray) -> np.ndarray:
    """Gives every token the weight 1, whose sample has an item."""
    return np.ones_like(weights) * has_items(weights).reshape(-1, *(1 for _ in weights.shape[1:]))


def _weighed(parts: Parts, divisors: np.ndarray) -> Gradients:
    """Divides the sum over the items of each micro-batch and rank by a number (K, W) of its own."""
    per_item = parts.items.sum() / parts.world
    shape = parts.items.shape
    return total(
        [
            scaled(parts.own(rank, [k]), per_item / divisor if divisor else 0.0)
            for (k, rank), divisor in np.ndenumerate(np.broadcast_to(divisors, shape))
        ]
    )


def _is_alike(counts: np.ndarray, others: np.ndarray) -> bool:
    """Says whether both have the same shares."""
    return bool((counts * others.sum() == others * counts.sum()).all())
