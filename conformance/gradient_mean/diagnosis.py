"""Diagnosis of wrong answers about averaged gradients."""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import compress, product, starmap
from typing import Any

import numpy as np

from conformance.core.bounds import error_over_bound
from conformance.core.comparison import Arrays, form_difference
from conformance.core.dtypes import DTYPES
from conformance.core.mistake import Mistake
from conformance.core.questions import VirtualQuestion
from conformance.core.verdict import Diagnosis
from conformance.gradient_mean import noise
from conformance.gradient_mean.mistakes import MISTAKES
from conformance.gradient_mean.observations import listed, observations
from conformance.gradient_mean.parts import ByRank, Gradients, Parts, norm_of, scaled, total
from conformance.gradient_mean.rounding import alike_but_for_rounding, went_through_fewer_bits
from conformance.gradient_mean.virtual_definition import NAME
from conformance.gradient_mean.virtual_mistakes import WRONG, Ranks, fits
from conformance.gradient_mean.wrong_averages import seen_from_own

_COMPRESSED = "compressed"
# A single process shows rank 0's gradient alone, which is right, or another mistake's answer.
_SEEN_IN_RANKS = ("never-synchronised", "moved-after-wrapping", "step-skipped-by-one-rank")
_NO_BROADCAST = "initial-broadcast-missing"
# What code does parameter by parameter, it can do to some and leave out for others.
_OF_A_PARAMETER = {
    "not-divided", "divided-twice", "squared-world", "never-synchronised", "shard-0-returned"
}  # fmt: skip
# Of other mistakes each term of a loss has its own answer, and they add up.
_OF_ALL_TERMS = "one-count-for-all-terms"


def diagnose(
    parts: Parts, expected: Arrays, bounds: Arrays, answers: Sequence[Arrays]
) -> Diagnosis:
    """Names the mistakes behind a wrong answer: by the ranks, its factor, and recomputing them.

    The answer is known to be wrong. Mistakes that the answer cannot tell apart are all named.

    Args:
        parts: the parts of the right answer.
        expected: the right answer, the same on every rank.
        bounds: how far an answer may be off; empty where it is exact.
        answers: the answer of each rank, or of the process that answers for all ranks.
    """
    if not all(_has_the_form(answer, expected) for answer in answers):
        return Diagnosis(())
    observed, factor = observations(parts.question, expected, answers)
    if names := names_of(parts, expected, bounds, answers):
        return Diagnosis(names, observed, factor=factor)
    names, where = _names_in_part(parts, expected, bounds, answers)
    return Diagnosis(names, (*observed, *where), factor=factor)


def names_of(
    parts: Parts, expected: Arrays, bounds: Arrays, answers: Sequence[Arrays]
) -> tuple[str, ...]:
    """Returns the mistakes that give these answers, which are wrong and have the right form."""
    candidates = answers_of_mistakes(parts, len(answers))
    first = next(iter(expected))
    stacked = _first_arrays(parts, len(answers), first)
    # Most answers of mistakes differ from the given one in the first array of rank 0 already.
    is_near = iter(_are_near(answers[0][first], stacked, expected[first], bounds.get(first)))
    names = []
    for mistake, ways in candidates:
        near = list(compress(ways, is_near))
        if mistake.is_by_element and not bounds:
            fits_one = _fits_by_element(ways, answers, expected)
        else:
            fits_one = any(_is_answer_of(way, answers, expected, bounds) for way in near)
        if fits_one:
            names.append(mistake.name)
    if not names and not bounds:
        names = [
            m.name for m, wrongs in candidates if _nearly_fits(parts, wrongs, answers, expected)
        ]
    if not names and went_through_fewer_bits(parts, answers, expected, bounds):
        names = [_COMPRESSED]
    return tuple(names)


def _names_in_part(
    parts: Parts, expected: Arrays, bounds: Arrays, answers: Sequence[Arrays]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns mistakes that are not all that is wrong, or not everywhere; and words that say so."""
    if (apart := parts.without_broadcast) is not None:
        right = as_answer(apart, apart.right)
        if names := names_of(apart, right, bounds, answers):
            return names, (f"and ranks keep parameters of their own: {_NO_BROADCAST}",)
    right_on = [_matches(answer, expected, expected, bounds) for answer in answers]
    if parts.world > 1 and right_on[0] and not any(right_on[1:]):
        return (), ("rank 0 alone holds the right gradients: a reduce is no all-reduce",)
    wrong = [
        name
        for name, right in expected.items()
        if not all(_matches(answer, {name: right}, expected, bounds) for answer in answers)
    ]
    if len(wrong) < len(expected):
        names = _names_of_some(wrong, parts, expected, bounds, answers)
        if _OF_A_PARAMETER & set(names):
            return names, (f"{listed(wrong)} alone; the others are right",)
    return (), ()


def _names_of_some(
    wrong: Sequence[str], parts: Parts, expected: Arrays, bounds: Arrays, answers: Sequence[Arrays]
) -> tuple[str, ...]:
    """Returns the mistakes that give these answers as far as some of their arrays go."""

    def some(arrays: Arrays) -> Arrays:
        return {name: arrays[name] for name in wrong}

    return tuple(
        mistake.name
        for mistake, ways in answers_of_mistakes(parts, len(answers))
        if any(
            _is_answer_of(list(map(some, way)), list(map(some, answers)), some(expected), bounds)
            for way in ways
        )
    )


def diagnose_virtual(
    question: VirtualQuestion, inputs: Arrays, expected: Arrays, answer: Arrays
) -> Diagnosis:
    """Names the mistakes behind a wrong answer about thousands of ranks.

    Args:
        question: the question of the case.
        inputs: the tensors of the case.
        expected: the right answer.
        answer: the wrong answer.
    """
    if set(answer) != set(expected) or form_difference(NAME, answer[NAME], expected[NAME]):
        return Diagnosis(())
    observed, factor = observations(question.model, expected, [answer])
    return Diagnosis(virtual_names(Ranks(question, inputs), answer), observed, factor=factor)


def virtual_names(ranks: Ranks, answer: Arrays) -> tuple[str, ...]:
    """Returns the mistakes that give this answer, which is known to be wrong."""
    return tuple(name for name in WRONG if fits(name, ranks, answer[NAME]))


# The kill matrix needs the same answers for each mistake.
@lru_cache(maxsize=4)
def answers_of_mistakes(parts: Parts, ranks: int) -> list[tuple[Mistake[Any], list[ByRank]]]:
    """Returns every mistake with its answers as an implementation shows them, rank by rank.

    Args:
        parts: the parts of the right answer.
        ranks: how many ranks show an answer: W, or 1.
    """
    with np.errstate(all="ignore"):
        return [
            (mistake, [_as_answers(parts, way[:ranks]) for way in _ways(mistake, parts)])
            for mistake in MISTAKES
            if mistake.name not in _SEEN_IN_RANKS or ranks > 1
        ]


@lru_cache(maxsize=4)
def _first_arrays(parts: Parts, ranks: int, name: str) -> np.ndarray:
    """Stacks what rank 0 shows under this name, of every mistake in every way, in their order."""
    mistakes = answers_of_mistakes(parts, ranks)
    return np.stack([way[0][name] for _, ways in mistakes for way in ways])


def _ways(mistake: Mistake[Any], parts: Parts) -> Iterator[ByRank]:
    """Yields a mistake's answers as ranks show them that start from rank 0's parameters."""
    ways = _sums_of_terms(mistake, parts)
    yield from (seen_from_own(parts, way) for way in ways) if parts.apart else ways


def _sums_of_terms(mistake: Mistake[Any], parts: Parts) -> Iterator[ByRank]:
    """Yields a mistake's answers, of a loss with several terms the sums of each term's."""
    if not parts.question.terms or mistake.name == _OF_ALL_TERMS:
        yield from mistake.answers(parts)
        return
    by_term = [list(mistake.answers(term)) for term in parts.by_term]
    is_alike = len(set(map(len, by_term))) == 1
    for ways in zip(*by_term, strict=True) if is_alike else product(*by_term):
        yield [total(by_rank) for by_rank in zip(*ways, strict=True)]


def _as_answers(parts: Parts, by_rank: ByRank) -> ByRank:
    """Makes the ranks' answers; equal gradients become a single answer."""
    distinct = {id(gradients): gradients for gradients in by_rank}
    answers = {key: as_answer(parts, gradients) for key, gradients in distinct.items()}
    return [answers[id(gradients)] for gradients in by_rank]


def _has_the_form(answer: Arrays, expected: Arrays) -> bool:
    return set(answer) == set(expected) and all(
        form_difference(name, answer[name], right) is None for name, right in expected.items()
    )


def as_answer(parts: Parts, gradients: Gradients) -> dict[str, np.ndarray]:
    """Casts gradients to the question's dtype, under an answer's names."""
    carrier = DTYPES[parts.question.dtype].carrier
    if parts.question.observe == "step":
        return {
            f"parameter/{name}": (parts.inputs[f"parameter/{name}"] - values / 2).astype(carrier)
            for name, values in gradients.items()
        }
    if parts.question.observe == "clipped":
        gradients = scaled(gradients, 1 / max(norm_of(gradients), 1.0))
    answer = {f"gradient/{name}": values.astype(carrier) for name, values in gradients.items()}
    return noise.read(parts.question, answer) if parts.question.observe == "noise" else answer


def _fits_by_element(ways: Sequence[ByRank], answers: Sequence[Arrays], expected: Arrays) -> bool:
    """Says whether a mistake gives each element of the answers in one of its orders of a sum."""
    return bool(ways) and all(
        np.equal([way[rank][name] for way in ways], answer[name]).any(axis=0).all()
        for rank, answer in enumerate(answers)
        for name in expected
    )


def _nearly_fits(
    parts: Parts, alternatives: Sequence[ByRank], answers: Sequence[Arrays], expected: Arrays
) -> bool:
    """Says whether a mistake gives the answers to an exact case, up to rounding.

    A right answer does not round; a wrong answer may round, as its code decides.
    """
    is_alike = partial(alike_but_for_rounding, dtype=parts.question.dtype)
    return any(
        all(starmap(is_alike, zip(answers, wrong, strict=True)))
        and not all(is_alike(expected, arrays) for arrays in wrong)
        for wrong in alternatives
    )


def _is_answer_of(
    wrong: Sequence[Arrays], answers: Sequence[Arrays], expected: Arrays, bounds: Arrays
) -> bool:
    """Says whether a mistake gives the answers, and is not within the bounds of the right ones."""
    pairs = list(zip(answers, wrong, strict=True))
    return all(_matches(answer, arrays, expected, bounds) for answer, arrays in pairs) and not all(
        _matches(expected, arrays, expected, bounds) for arrays in wrong
    )


def _matches(answer: Arrays, wrong: Arrays, expected: Arrays, bounds: Arrays) -> bool:
    return all(
        _are_near(answer[name], array[None], expected[name], bounds.get(name))[0]
        for name, array in wrong.items()
    )


def _are_near(
    answer: np.ndarray, wrongs: np.ndarray, right: np.ndarray, bound: np.ndarray | None
) -> np.ndarray:
    """Says of each of several wrong arrays whether the answer is that array, or within its bound.

    Args:
        answer: an array of an answer.
        wrongs: the wrong arrays, stacked.
        right: the right array.
        bound: how far an answer may be from the right array; without one it is exact.
    """
    rows, given = wrongs.reshape(len(wrongs), -1), answer.reshape(1, -1)
    if bound is None:
        return np.asarray(((rows == given) | (np.isnan(rows) & np.isnan(given))).all(axis=1))
    with np.errstate(all="ignore"):
        # An error grows with the answer itself.
        largest = np.max(np.abs(rows.astype(np.float64)), axis=1, keepdims=True, initial=0.0)
        usual = np.max(np.abs(right.astype(np.float64)), initial=0.0)
        growth = np.fmax(1.0, largest / usual) if usual else np.ones_like(largest)
        # A wrong answer has terms that the right one lacks, and in every element.
        own = np.max(bound, initial=0.0) * growth
    return np.asarray((error_over_bound(given, rows, own) <= 1).all(axis=1))
