"""What a wrong answer about averaged gradients looks like."""

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
from conformance.gradient_mean.models import SPECTROMETER
from conformance.gradient_mean.parts import ByRank, Gradients, Parts
from conformance.gradient_mean.rounding import alike_but_for_rounding, went_through_fewer_bits
from conformance.gradient_mean.virtual_definition import NAME
from conformance.gradient_mean.virtual_mistakes import WRONG, Ranks, fits

_EXPONENTS = range(-2, 3)
_SHOWN = 8  # samples that an evidence names
_COMPRESSED = "compressed"


def diagnose(
    parts: Parts, expected: Arrays, bounds: Arrays, answers: Sequence[Arrays]
) -> Diagnosis:
    """Names a wrong answer: whether ranks disagree, its factor, and every mistake recomputed.

    The answer is known to be wrong. Names that the answer cannot tell apart are all given.

    Args:
        parts: the parts of the right answer.
        expected: the right answer, the same on every rank.
        bounds: how far it may be off; empty where it is exact.
        answers: what each rank gave; one where one process answers for all.
    """
    if not all(_has_the_form(answer, expected) for answer in answers):
        return Diagnosis(())
    known = answers_of_mistakes(parts, len(answers))
    names = [m.name for m, wrongs in known if _fits(m, wrongs, answers, expected, bounds)]
    if not names and not bounds:
        names = [m.name for m, wrongs in known if _nearly_fits(parts, wrongs, answers, expected)]
    if not names and went_through_fewer_bits(parts, answers, expected, bounds):
        names = [_COMPRESSED]
    observed, factor = observations(parts.question, expected, answers)
    return Diagnosis(tuple(names), observed, factor=factor)


def diagnose_virtual(
    question: VirtualQuestion, inputs: Arrays, expected: Arrays, answer: Arrays
) -> Diagnosis:
    """Names a wrong answer about thousands of ranks: its factor, and every mistake recomputed.

    Args:
        question: what was asked.
        inputs: with which tensors.
        expected: the right answer.
        answer: the wrong one.
    """
    if set(answer) != set(expected) or form_difference(NAME, answer[NAME], expected[NAME]):
        return Diagnosis(())
    observed, factor = observations(question.model, expected, [answer])
    return Diagnosis(virtual_names(Ranks(question, inputs), answer), observed, factor=factor)


def virtual_names(ranks: Ranks, answer: Arrays) -> tuple[str, ...]:
    """Returns the mistakes one of whose answers this is; it is known to be wrong."""
    return tuple(name for name in WRONG if fits(name, ranks, answer[NAME]))


@lru_cache(maxsize=4)  # The kill matrix asks for the same ones once for each mistake.
def answers_of_mistakes(parts: Parts, ranks: int) -> list[tuple[Mistake[Any], list[ByRank]]]:
    """Returns every mistake with its answers as an implementation shows them, rank by rank.

    Args:
        parts: the parts of the right answer.
        ranks: of how many ranks an answer is seen: W, or 1.
    """
    with np.errstate(all="ignore"):
        return [
            (mistake, [_as_answers(parts, by_rank[:ranks]) for by_rank in mistake.answers(parts)])
            for mistake in MISTAKES
            # One process shows rank 0's gradient alone, which is another mistake's answer.
            if mistake.name != "never-synchronised" or ranks > 1
        ]


def _as_answers(parts: Parts, by_rank: ByRank) -> ByRank:
    """Makes the ranks' answers; what is the same on every rank is made once."""
    distinct = {id(gradients): gradients for gradients in by_rank}
    answers = {key: as_answer(parts, gradients) for key, gradients in distinct.items()}
    return [answers[id(gradients)] for gradients in by_rank]


def _has_the_form(answer: Arrays, expected: Arrays) -> bool:
    return set(answer) == set(expected) and all(
        form_difference(name, answer[name], right) is None for name, right in expected.items()
    )


def as_answer(parts: Parts, gradients: Gradients) -> dict[str, np.ndarray]:
    """Puts gradients into the question's dtype, under an answer's names."""
    carrier = DTYPES[parts.question.dtype].carrier
    if parts.question.observe == "step":
        return {
            f"parameter/{name}": (parts.inputs[f"parameter/{name}"] - values / 2).astype(carrier)
            for name, values in gradients.items()
        }
    answer = {f"gradient/{name}": values.astype(carrier) for name, values in gradients.items()}
    return noise.read(parts.question, answer) if parts.question.observe == "noise" else answer


def _fits(
    mistake: Mistake[Any],
    alternatives: Sequence[ByRank],
    answers: Sequence[Arrays],
    expected: Arrays,
    bounds: Arrays,
) -> bool:
    """Says whether the answers are a mistake's, or each element is of one of its orders."""
    if mistake.is_by_element and alternatives and not bounds:
        return all(
            np.equal([wrong[rank][name] for wrong in alternatives], given[name]).any(axis=0).all()
            for rank, given in enumerate(answers)
            for name in expected
        )
    return any(_is_given(wrong, answers, expected, bounds) for wrong in alternatives)


def _nearly_fits(
    parts: Parts, alternatives: Sequence[ByRank], answers: Sequence[Arrays], expected: Arrays
) -> bool:
    """Says whether the answers to an exact case are a mistake's but for rounding.

    A right answer does not round; a wrong one may, and then its code decides how.
    """
    alike = partial(alike_but_for_rounding, dtype=parts.question.dtype)
    return any(
        all(starmap(alike, zip(answers, wrong, strict=True)))
        and not all(alike(expected, one) for one in wrong)
        for wrong in alternatives
    )


def _is_given(
    wrong: Sequence[Arrays], answers: Sequence[Arrays], expected: Arrays, bounds: Arrays
) -> bool:
    """Says whether the answers are this mistake's, and not the right ones in other words."""
    pairs = list(zip(answers, wrong, strict=True))
    return all(_matches(given, one, expected, bounds) for given, one in pairs) and not all(
        _matches(expected, one, expected, bounds) for one in wrong
    )


def _matches(given: Arrays, wrong: Arrays, expected: Arrays, bounds: Arrays) -> bool:
    for name, one in wrong.items():
        if not bounds:
            if not np.array_equal(given[name], one, equal_nan=True):
                return False
            continue
            # An error grows as the answer itself does.
        largest = np.max(np.abs(one.astype(np.float64)), initial=0.0)
        right = np.max(np.abs(expected[name].astype(np.float64)), initial=0.0)
        growth = max(1.0, largest / right) if right else 1.0
        if (error_over_bound(given[name], one, bounds[name] * growth) > 1).any():
            return False
    return True


def observations(
    question: GradientQuestion, expected: Arrays, answers: Sequence[Arrays]
) -> tuple[tuple[str, ...], float | None]:
    """Returns what wrong answers show by themselves, in sentences, and their common factor.

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
    elif question.model == SPECTROMETER:
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


def _common_ratio(expected: Arrays, given: Arrays) -> float | None:
    """Returns the one factor between all gradients and the right ones, to 1 in 2^6."""
    ratios: list[float] = []
    for name, right in expected.items():
        wide, got = right.astype(np.float64), given[name].astype(np.float64)
        if ((wide == 0) != (got == 0)).any() or not np.isfinite(got).all():
            return None
        ratios += (got[wide != 0] / wide[wide != 0]).tolist()
    if not ratios or max(ratios) - min(ratios) > abs(ratios[0]) * 2.0**-6:
        return None
    return float(np.median(ratios))


def _powers(question: GradientQuestion, ratio: float) -> str:
    """Writes the ratio as W^a · n^b · K^c, where n is every shard's length and one product fits."""
    lengths = {n for shards in question.shards for n in shards}
    bases = {"W": question.world_size, "K": question.micro_batches}
    if len(lengths) == 1:
        bases["n"] = lengths.pop()
    bases = {letter: base for letter, base in bases.items() if base > 1}
    found = []
    for exponents in product(_EXPONENTS, repeat=len(bases)):
        value = Fraction(1)
        for base, exponent in zip(bases.values(), exponents, strict=True):
            value *= Fraction(base) ** exponent
        if any(exponents) and abs(float(value) / ratio - 1) < 2.0**-6:
            found.append((sum(map(abs, exponents)), exponents))
    if not found:
        return ""
    least = min(size for size, _ in found)
    shortest = [exponents for size, exponents in found if size == least]
    if len(shortest) > 1:
        return ""
    factors = " · ".join(
        letter if exponent == 1 else f"{letter}^{exponent}"
        for letter, exponent in zip(bases, shortest[0], strict=True)
        if exponent
    )
    return f": {factors} with {', '.join(f'{letter} = {base}' for letter, base in bases.items())}"


def _weights(question: GradientQuestion, expected: Arrays, given: Arrays) -> Iterator[str]:
    """Says which samples count nothing, or not as much as they should."""
    (right,), (got,) = (
        [values.astype(np.float64).ravel() for values in arrays.values()]
        for arrays in (expected, given)
    )
    places = [
        f"sample {sample} of rank {rank} in micro-batch {k}"
        for k, shards in enumerate(question.shards)
        for rank, count in enumerate(shards)
        for sample in range(count)
    ]
    if np.array_equal(np.sort(got), np.sort(right)):
        apart = [
            place for place, one, other in zip(places, got, right, strict=True) if one != other
        ]
        yield f"{len(apart)} samples count as others should: {_listed(apart)}"
        return
    missing = [place for place, weight in zip(places, got, strict=True) if weight == 0]
    if missing:
        yield f"{len(missing)} of {len(places)} samples count nothing: {_listed(missing)}"
    off = [
        f"{place} ({weight / should:.4g} times)"
        for place, weight, should in zip(places, got, right, strict=True)
        if weight and abs(weight / should - 1) > 2.0**-6
    ]
    if off:
        yield f"{len(off)} count otherwise than they should: {_listed(off)}"


def _listed(items: Sequence[object]) -> str:
    more = len(items) - _SHOWN
    shown = ", ".join(map(str, items[:_SHOWN]))
    return f"{shown} and {more} more" if more > 0 else shown
