"""What a wrong answer about averaged gradients looks like."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from itertools import product, starmap
from typing import Any

import numpy as np

from conformance.channel_shuffle.diagnosis import Diagnosis
from conformance.core.bounds import error_over_bound
from conformance.core.comparison import form_difference
from conformance.core.dtypes import DTYPES
from conformance.core.questions import GradientQuestion
from conformance.gradient_mean import noise
from conformance.gradient_mean.models import SPECTROMETER
from conformance.gradient_mean.parts import ByRank, Gradients, Work
from conformance.gradient_mean.rounding import alike_but_for_rounding, went_through_fewer_bits
from conformance.mistakes import Mistake, catalogue

Arrays = Mapping[str, np.ndarray]
_EXPONENTS = range(-2, 3)
_SHOWN = 8  # samples that an evidence names
_COMPRESSED = "compressed"


def diagnose(work: Work, expected: Arrays, bounds: Arrays, answers: Sequence[Arrays]) -> Diagnosis:
    """Name a wrong answer: whether ranks disagree, its factor, and every mistake recomputed.

    The answer is known to be wrong. Names that the answer cannot tell apart are all given.

    Args:
        work: the parts of the right answer.
        expected: the right answer, the same on every rank.
        bounds: how far it may be off; empty where it is exact.
        answers: what each rank gave; one where one process answers for all.
    """
    if not all(_has_the_form(answer, expected) for answer in answers):
        return Diagnosis(())
    known = wrong_answers(work, len(answers))
    names = [m.name for m, wrongs in known if _fits(m, wrongs, answers, expected, bounds)]
    if not names and not bounds:
        names = [m.name for m, wrongs in known if _nearly_fits(work, wrongs, answers, expected)]
    if not names and went_through_fewer_bits(work, answers, expected, bounds):
        names = [_COMPRESSED]
    return Diagnosis(tuple(names), "; ".join(evidence(work.question, expected, answers)))


@lru_cache(maxsize=4)  # the kill matrix looks at them once for each of them
def wrong_answers(work: Work, ranks: int) -> list[tuple[Mistake[Any], list[ByRank]]]:
    """Every mistake with its answers as an implementation would show them, rank by rank.

    Args:
        work: the parts of the right answer.
        ranks: of how many ranks an answer is seen: W, or 1.
    """
    with np.errstate(all="ignore"):
        return [
            (mistake, [_as_answers(work, by_rank[:ranks]) for by_rank in mistake.wrong(work)])
            for mistake in catalogue("gradient_mean")
            # Of never-synchronised rank 0's is all that one process shows: that has its own name.
            if mistake.name != "never-synchronised" or ranks > 1
        ]


def _as_answers(work: Work, by_rank: ByRank) -> ByRank:
    """As `as_answer`; what is the same on every rank is made once."""
    made = {id(one): one for one in by_rank}
    answers = {key: as_answer(work, one) for key, one in made.items()}
    return [answers[id(one)] for one in by_rank]


def _has_the_form(answer: Arrays, expected: Arrays) -> bool:
    return set(answer) == set(expected) and all(
        form_difference(name, answer[name], right) is None for name, right in expected.items()
    )


def as_answer(work: Work, gradients: Gradients) -> dict[str, np.ndarray]:
    """Gradients in the question's dtype, under an answer's names."""
    carrier = DTYPES[work.question.dtype].carrier
    if work.question.observe == "step":
        return {
            f"parameter/{name}": (work.inputs[f"parameter/{name}"] - values / 2).astype(carrier)
            for name, values in gradients.items()
        }
    answer = {f"gradient/{name}": values.astype(carrier) for name, values in gradients.items()}
    return noise.read(work.question, answer) if work.question.observe == "noise" else answer


def _fits(
    mistake: Mistake[Any],
    alternatives: Sequence[ByRank],
    answers: Sequence[Arrays],
    expected: Arrays,
    bounds: Arrays,
) -> bool:
    """Whether one of the mistake's answers is what was given, or each element is of one of them."""
    if mistake.is_by_element and alternatives and not bounds:
        return all(
            np.equal([wrong[rank][name] for wrong in alternatives], given[name]).any(axis=0).all()
            for rank, given in enumerate(answers)
            for name in expected
        )
    return any(_is_given(wrong, answers, expected, bounds) for wrong in alternatives)


def _nearly_fits(
    work: Work, alternatives: Sequence[ByRank], answers: Sequence[Arrays], expected: Arrays
) -> bool:
    """Whether one of a mistake's answers to an exact case is what was given but for rounding.

    A right answer does not round; a wrong one may, and then its code decides how.
    """
    alike = partial(alike_but_for_rounding, dtype=work.question.dtype)
    return any(
        all(starmap(alike, zip(answers, wrong, strict=True)))
        and not all(alike(expected, one) for one in wrong)
        for wrong in alternatives
    )


def _is_given(
    wrong: Sequence[Arrays], answers: Sequence[Arrays], expected: Arrays, bounds: Arrays
) -> bool:
    """Whether this is what was given, and not the right answer in other words."""
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


def evidence(
    question: GradientQuestion, expected: Arrays, answers: Sequence[Arrays]
) -> Iterator[str]:
    """What a wrong answer shows by itself: which ranks disagree, its factor, what samples count."""
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
    if question.observe == "noise":
        yield from _repeated_noise(answers[0]["noise/alike"])
    if question.observe != "gradients":
        return
    ratio = _common_ratio(expected, answers[0])
    if ratio is not None and ratio != 1:
        yield f"every gradient is {ratio:.6g} times the right one{_powers(question, ratio)}"
    elif question.model == SPECTROMETER:
        yield from _weights(question, expected, answers[0])


def _repeated_noise(alike: np.ndarray) -> Iterator[str]:
    pairs = [f"{r} and {s}" for r, s in np.argwhere(np.triu(alike, 1)).tolist()]
    if pairs:
        yield f"the same noise on ranks {_listed(pairs)}"
    within = np.flatnonzero(np.diagonal(alike)).tolist()
    if within:
        yield f"the same noise on two samples of rank {_listed(within)}"


def _common_ratio(expected: Arrays, given: Arrays) -> float | None:
    """The one factor between all gradients and the right ones, within 1 in 2^6 of the dtype."""
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
    """The ratio as W^a · n^b · K^c, where n is every shard's length and just one is meant."""
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
    """Which samples count nothing, or not as much as they should."""
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
