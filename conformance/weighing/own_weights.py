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
        if not all(term.is_even for term in own) and all(term.plain is not None for term in own)
    }
    hidden = {name for name in weighed if _are_as_one(terms[name])}
    return [
        (*row[:3], _without_weights(row[3], has_mass=row[3].name not in hidden))
        if row[3].name in weighed
        else row
        for row in rows
    ]


def _are_as_one(terms: Sequence[Term]) -> bool:
    """Whether the weights of every micro-batch add up to one number, as if divided by their sum.

    Nothing is said of ranks then: one may have more to divide by. Items of sequences that are
    divided by their lengths add up to the number of sequences, which is a count as any other.
    """
    masses = [term.weighs for term in terms if term.weighs is not None]
    if not masses:
        return True
    off = 2.0**-24 * max(term.count or 0 for term in terms)
    are_sequences = all(
        (term.samples or 0) > 1 and abs((term.weighs or 0) - (term.samples or 0)) <= off * mass
        for term, mass in zip(terms, masses, strict=False)
    )
    return max(masses) - min(masses) <= 2 * off * max(masses) and not are_sequences


def _without_weights(term: Term, *, has_mass: bool) -> Term:
    return replace(
        term,
        share=term.plain or 0.0,
        mass=term.weighs if has_mass else None,
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
