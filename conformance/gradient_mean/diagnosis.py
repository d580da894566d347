"""Diagnosis of wrong answers about averaged gradients."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from itertools import product, starmap
from typing import Any

import numpy as np

from conformance.core.bounds import error_over_bound
from conformance.core.comparison import Arrays, form_difference
from conformance.core.dtypes import DTYPES
from conformance.core.mistake import Mistake
from conformance.core.questions import GradientQuestion, VirtualQuestion
from conformance.core.verdict import Diagnosis
from conformance.gradient_mean import noise
from conformance.gradient_mean.mistakes import MISTAKES
from conformance.gradient_mean.models import SPECTROMETER, TOKEN_SPECTROMETER, TOKENS
from conformance.gradient_mean.parts import ByRank, Gradients, Parts, norm_of, scaled, total
from conformance.gradient_mean.rounding import alike_but_for_rounding, went_through_fewer_bits
from conformance.gradient_mean.virtual_definition import NAME
from conformance.gradient_mean.virtual_mistakes import WRONG, Ranks, fits
from conformance.gradient_mean.wrong_averages import seen_from_own

_EXPONENTS = range(-2, 3)
# A sentence names at most so many samples.
_SHOWN = 8
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
    names = [m.name for m, wrongs in candidates if _fits(m, wrongs, answers, expected, bounds)]
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
            return names, (f"{_listed(wrong)} alone; the others are right",)
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


def _fits(
    mistake: Mistake[Any],
    alternatives: Sequence[ByRank],
    answers: Sequence[Arrays],
    expected: Arrays,
    bounds: Arrays,
) -> bool:
    """Says whether a mistake gives the answers, or each element in one of its orders of a sum."""
    if mistake.is_by_element and alternatives and not bounds:
        return all(
            np.equal([wrong[rank][name] for wrong in alternatives], answer[name]).any(axis=0).all()
            for rank, answer in enumerate(answers)
            for name in expected
        )
    return any(_is_answer_of(wrong, answers, expected, bounds) for wrong in alternatives)


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
    for name, array in wrong.items():
        if not bounds:
            if not np.array_equal(answer[name], array, equal_nan=True):
                return False
            continue
        # An error grows with the answer itself.
        largest = np.max(np.abs(array.astype(np.float64)), initial=0.0)
        right = np.max(np.abs(expected[name].astype(np.float64)), initial=0.0)
        growth = max(1.0, largest / right) if right else 1.0
        # A wrong answer has terms that the right one lacks, and in every element.
        own = np.max(bounds[name], initial=0.0) * growth
        if (error_over_bound(answer[name], array, np.full_like(bounds[name], own)) > 1).any():
            return False
    return True


def observations(
    question: GradientQuestion, expected: Arrays, answers: Sequence[Arrays]
) -> tuple[tuple[str, ...], float | None]:
    """Describes wrong answers without any mistake: returns sentences, and a common factor.

    The sentences say which ranks disagree, the factor, and which samples count wrongly.
    """
    sentences = list(_disagreement(expected, answers))
    if question.observe == "noise":
        sentences += _repeated_noise(answers[0]["noise/alike"])
    if question.observe != "gradients":
        return tuple(sentences), None
    factor = _common_ratio(expected, answers[0])
    if factor is not None and factor != 1:
        powers = _powers(question, factor)
        sentences.append(f"every gradient is {factor:.6g} times the right one{powers}")
    elif question.model in (SPECTROMETER, TOKEN_SPECTROMETER):
        sentences += _weights(question, expected, answers[0])
    return tuple(sentences), factor


def _disagreement(expected: Arrays, answers: Sequence[Arrays]) -> Iterator[str]:
    apart = [
        rank
        for rank, answer in enumerate(answers)
        if any(
            not np.array_equal(answer[name], answers[0][name], equal_nan=True) for name in expected
        )
    ]
    if apart:
        many = len(apart) > 1
        yield f"rank{'s' * many} {_listed(apart)} differ{'s' * (not many)} from rank 0"


def _repeated_noise(alike: np.ndarray) -> Iterator[str]:
    pairs = [f"{r} and {s}" for r, s in np.argwhere(np.triu(alike, 1)).tolist()]
    if pairs:
        yield f"the same noise on ranks {_listed(pairs)}"
    within = np.flatnonzero(np.diagonal(alike)).tolist()
    if within:
        yield f"the same noise on two samples of rank {_listed(within)}"


def _common_ratio(expected: Arrays, answer: Arrays) -> float | None:
    """Returns the factor between all gradients and the right ones, to 1 in 2^6, or None."""
    ratios: list[float] = []
    for name, right in expected.items():
        wide, wrong = right.astype(np.float64), answer[name].astype(np.float64)
        if ((wide == 0) != (wrong == 0)).any() or not np.isfinite(wrong).all():
            return None
        ratios += (wrong[wide != 0] / wide[wide != 0]).tolist()
    if not ratios or max(ratios) - min(ratios) > abs(ratios[0]) * 2.0**-6:
        return None
    return float(np.median(ratios))


def _powers(question: GradientQuestion, ratio: float) -> str:
    """Writes the ratio as W^a · n^b · K^c, for shards of equal length n, if one product fits."""
    lengths = {n for shards in question.shards for n in shards}
    bases: dict[str, float] = {"W": question.world_size, "K": question.micro_batches}
    if question.counts:
        samples = sum(map(sum, question.shards))
        bases |= {"N": float(question.all_items), "S": samples}
    elif len(lengths) == 1:
        bases["n"] = lengths.pop()
    bases = {letter: base for letter, base in bases.items() if base > 1}
    fitting = []
    for exponents in product(_EXPONENTS, repeat=len(bases)):
        value = Fraction(1)
        for base, exponent in zip(bases.values(), exponents, strict=True):
            value *= Fraction(base) ** exponent
        if any(exponents) and abs(float(value) / ratio - 1) < 2.0**-6:
            fitting.append((sum(map(abs, exponents)), exponents))
    if not fitting:
        return ""
    least = min(size for size, _ in fitting)
    shortest = [exponents for size, exponents in fitting if size == least]
    if len(shortest) > 1:
        return ""
    factors = " · ".join(
        letter if exponent == 1 else f"{letter}^{exponent}"
        for letter, exponent in zip(bases, shortest[0], strict=True)
        if exponent
    )
    return f": {factors} with {', '.join(f'{letter} = {base:g}' for letter, base in bases.items())}"


def _weights(question: GradientQuestion, expected: Arrays, answer: Arrays) -> Iterator[str]:
    """Says which samples count nothing, or less or more than they should."""
    (right,), (got,) = (
        [values.astype(np.float64).ravel() for values in arrays.values()]
        for arrays in (expected, answer)
    )
    tokens = [""]
    if question.model == TOKEN_SPECTROMETER:
        tokens = [f"token {token} of " for token in range(TOKENS)]
    places = [
        f"{token}sample {sample} of rank {rank} in micro-batch {k}"
        for k, shards in enumerate(question.shards)
        for rank, count in enumerate(shards)
        for sample in range(count)
        for token in tokens
    ]
    masked = [
        place for place, weight, due in zip(places, got, right, strict=True) if weight and not due
    ]
    if masked:
        yield f"{len(masked)} count that should not: {_listed(masked)}"
    if np.array_equal(np.sort(got), np.sort(right)):
        apart = [
            place for place, weight, due in zip(places, got, right, strict=True) if weight != due
        ]
        yield f"{len(apart)} samples count as others should: {_listed(apart)}"
        return
    missing = [
        place for place, weight, due in zip(places, got, right, strict=True) if due and not weight
    ]
    if missing:
        yield f"{len(missing)} of {len(places)} samples count nothing: {_listed(missing)}"
    off = [
        f"{place} ({weight / due:.4g} times)"
        for place, weight, due in zip(places, got, right, strict=True)
        if weight and due and abs(weight / due - 1) > 2.0**-6
    ]
    if off:
        yield f"{len(off)} count otherwise than they should: {_listed(off)}"


def _listed(items: Sequence[object]) -> str:
    more = len(items) - _SHOWN
    shown = ", ".join(map(str, items[:_SHOWN]))
    return f"{shown} and {more} more" if more > 0 else shown
