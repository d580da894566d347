"""Terms whose items a script multiplies by weights of its own: returns, importances, lengths.

What is left of an item's share without its weight is judged as that of any other item. A mean may
be over the items, or over what they weigh together; which one is meant only the script knows.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from conformance.weighing.kinds import Row
from conformance.weighing.records import Term
from conformance.weighing.verdict import TermWeights

OWN_WEIGHTS = "its items do not count alike within a micro-batch: weights of the script's own"
# Weights may have been divided by their sum, or by another count, before items were multiplied.
_MAY_BE_MEANT = frozenset(
    {"sum-loss", "sample-share-for-token-share", "padding-counted", "shifted-labels-counted",
     "other-windows-count"}
)  # fmt: skip


def by_own_weights(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the shares of weight 1, for terms whose items are weighed somewhere."""
    terms: dict[str, list[Term]] = defaultdict(list)
    for *_, term in rows:
        if term.count:
            terms[term.name].append(term)
    weighed = {
        name
        for name, own in terms.items()
        if not all(term.is_even for term in own)
        and all(term.plain is not None for term in own)
        and not _add_up_to_one_number(own)
    }
    return [(*row[:3], _without_weights(row[3])) if row[3].name in weighed else row for row in rows]


def _add_up_to_one_number(terms: Sequence[Term]) -> bool:
    """Whether the weights of every micro-batch do, as if they had been divided by their sum.

    Nothing is known of ranks then: one may have more to divide by. But weights of sequences that
    are divided by their lengths add up to the number of sequences, which is a count as any other.
    """
    pairs = [(term.weighs, term.samples or 0) for term in terms if term.weighs is not None]
    if len(pairs) < len(terms):
        return False  # weights of either sign are no weights of a mean
    least, most = min(mass for mass, _ in pairs), max(mass for mass, _ in pairs)
    off = 2 * 2.0**-24 * max(term.count or 0 for term in terms) * most
    are_sequences = all(samples > 1 and abs(mass - samples) <= off for mass, samples in pairs)
    return most - least <= off and not are_sequences


def _without_weights(term: Term) -> Term:
    return replace(
        term,
        share=term.plain or 0.0,
        mass=term.weighs,
        is_even=True,
        is_weighed=True,
        shares=(),
    )


def judged_by_either(by_weights: TermWeights, by_items: TermWeights) -> TermWeights:
    """Return the verdict by what items weigh, or else by their number; none where neither is sure.

    Only the script knows what it means by its weights, so that no more than the mistakes of ranks
    and micro-batches are named.
    """
    for judged in (by_weights, by_items):
        is_kept = judged.names is None
        if is_kept or (judged.names and not _MAY_BE_MEANT & set(judged.names)):
            return judged
    return replace(by_items, names=None, note=OWN_WEIGHTS)
