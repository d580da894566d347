"""What can be said of wrong averages without any mistake: ranks apart, a factor, samples."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product

import numpy as np

from conformance.core.comparison import Arrays
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean.models import SPECTROMETER, TOKEN_SPECTROMETER, TOKENS

_EXPONENTS = range(-2, 3)
# A sentence names at most so many samples.
_SHOWN = 8


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
        yield f"rank{'s' * many} {listed(apart)} differ{'s' * (not many)} from rank 0"


def _repeated_noise(alike: np.ndarray) -> Iterator[str]:
    pairs = [f"{r} and {s}" for r, s in np.argwhere(np.triu(alike, 1)).tolist()]
    if pairs:
        yield f"the same noise on ranks {listed(pairs)}"
    within = np.flatnonzero(np.diagonal(alike)).tolist()
    if within:
        yield f"the same noise on two samples of rank {listed(within)}"


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
        yield f"{len(masked)} count that should not: {listed(masked)}"
    if np.array_equal(np.sort(got), np.sort(right)):
        apart = [
            place for place, weight, due in zip(places, got, right, strict=True) if weight != due
        ]
        yield f"{len(apart)} samples count as others should: {listed(apart)}"
        return
    missing = [
        place for place, weight, due in zip(places, got, right, strict=True) if due and not weight
    ]
    if missing:
        yield f"{len(missing)} of {len(places)} samples count nothing: {listed(missing)}"
    off = [
        f"{place} ({weight / due:.4g} times)"
        for place, weight, due in zip(places, got, right, strict=True)
        if weight and due and abs(weight / due - 1) > 2.0**-6
    ]
    if off:
        yield f"{len(off)} count otherwise than they should: {listed(off)}"


def listed(items: Sequence[object]) -> str:
    """Writes the first of these, and how many more there are.

    >>> listed(range(10))
    '0, 1, 2, 3, 4, 5, 6, 7 and 2 more'
    """
    more = len(items) - _SHOWN
    shown = ", ".join(map(str, items[:_SHOWN]))
    return f"{shown} and {more} more" if more > 0 else shown
