"""The verdict on averaged gradients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

import numpy as np

from conformance.core.bounds import departure
from conformance.core.checks import Check
from conformance.core.comparison import Difference, difference, sha256_of_answer
from conformance.core.golden import Golden, hashes_of
from conformance.core.mistake import Wrong
from conformance.core.outcomes import Answer
from conformance.core.questions import Case, GradientQuestion, VirtualQuestion
from conformance.core.verdict import Status, Verdict, wrong
from conformance.gradient_mean import diagnosis
from conformance.gradient_mean.definition import PROMISES
from conformance.gradient_mean.mistakes import MISTAKES
from conformance.gradient_mean.parts import Parts
from conformance.gradient_mean.solve import solve_virtual
from conformance.gradient_mean.virtual_definition import NAME
from conformance.gradient_mean.virtual_mistakes import WRONG, Ranks
from conformance.gradient_mean.virtual_mistakes import wrong_answers as answers_at_scale

Stored = TypeVar("Stored", np.ndarray, str)


def judge(check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
    """Judges the ranks' gradients: every rank must hold what the implementation promises."""
    promise = check.implementation.held_to
    expected, bounds = promised(golden.answers, promise), promised(golden.bounds, promise)
    gradients = [with_positive_zeros(answer.arrays) for answer in answers]
    digest = sha256_of_answer(gradients[0])
    furthest = None
    differences: list[Difference | None]
    if not bounds:
        differences = [difference(arrays, expected) for arrays in gradients]
    else:
        departures = [departure(arrays, expected, bounds) for arrays in gradients]
        differences = [first for first, _ in departures]
        furthest = max(ratio for _, ratio in departures)
    rank = next((rank for rank, differs in enumerate(differences) if differs is not None), None)
    flaw = next((answer.flaw for answer in answers if answer.flaw), "")
    if rank is None and flaw:
        return Verdict("fail", f"{flaw}; the first is right", answer=digest)
    if rank is None:
        status: Status = "within-bound" if bounds else "exact"
        return Verdict(status, error_over_bound=furthest, answer=digest)
    differs = differences[rank]
    assert differs is not None
    parts = Parts(check.case.question, golden.inputs, promise)
    named = diagnosis.diagnose(parts, expected, bounds, gradients)
    where = f"rank {rank}: " if len(answers) > 1 else ""
    words = "; ".join(filter(None, (flaw, where + differs.words)))
    verdict = wrong("fail", words, named, digest, MISTAKES, differs)
    return replace(verdict, error_over_bound=furthest)


def judge_virtual(check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
    """Judges the process that answers for all ranks.

    The right answer is computed again only where hashes differ.
    """
    promise, [answer] = check.implementation.held_to, answers
    arrays = with_positive_zeros(answer.arrays)
    digest = sha256_of_answer(arrays)
    if hashes_of(arrays) == promised(golden.hashes, promise):
        verdict = Verdict("fail", f"{answer.flaw}; the first is right") if answer.flaw else None
        return replace(verdict or Verdict("exact"), answer=digest)
    golden = solve_virtual(check.case)
    expected = promised(golden.answers, promise)
    differs = difference(arrays, expected)
    if differs is None:
        return Verdict("exact", answer=digest)
    named = diagnosis.diagnose_virtual(check.case.question, golden.inputs, expected, arrays)
    words = "; ".join(filter(None, (answer.flaw, differs.words)))
    return wrong("fail", words, named, digest, MISTAKES, differs)


def is_right(
    answers: Sequence[Mapping[str, np.ndarray]],
    expected: Mapping[str, np.ndarray],
    bounds: Mapping[str, np.ndarray],
) -> bool:
    """Says whether every rank's gradients are the expected gradients, or within their bounds."""
    gradients = map(with_positive_zeros, answers)
    if bounds:
        return all(departure(arrays, expected, bounds)[0] is None for arrays in gradients)
    return all(difference(arrays, expected) is None for arrays in gradients)


def with_positive_zeros(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Makes zeros positive, since the sign of a zero sum depends on the order of its terms."""
    return {
        name: array + array.dtype.type(0) if array.dtype.kind in "fV" else array
        for name, array in arrays.items()
    }


def promised(arrays: Mapping[str, Stored], promise: str) -> dict[str, Stored]:
    """Returns a golden's arrays, or hashes, under one promise, without the promise's name."""
    head = f"{promise}/"
    return {
        name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)
    }


def wrong_answers(case: Case[GradientQuestion], golden: Golden) -> Iterator[Wrong]:
    """Yields the wrong answers of the known mistakes, under every promise that is asked.

    Each is diagnosed as W ranks show it and as a single process shows it.
    """
    for promise in case.promises or PROMISES:
        expected, bounds = promised(golden.answers, promise), promised(golden.bounds, promise)
        parts = Parts(case.question, golden.inputs, promise)
        for ranks in {case.question.world_size, 1}:
            for mistake, alternatives in diagnosis.answers_of_mistakes(parts, ranks):
                # Answers that differ in the order of a sum are all wrong: the first stands for all.
                for by_rank in alternatives[:1] if mistake.is_by_element else alternatives:
                    if not is_right(by_rank, expected, bounds):
                        names = diagnosis.names_of(parts, expected, bounds, by_rank)
                        yield Wrong(mistake.name, names)


def wrong_virtual_answers(case: Case[VirtualQuestion], golden: Golden) -> Iterator[Wrong]:
    """Yields at most four wrong answers of each known mistake.

    The first and the second missing rank stand for thousands of ranks.
    """
    ranks = Ranks(case.question, golden.inputs)
    expected = promised(golden.answers, PROMISES[0])
    for name in WRONG:
        for gradient in islice(answers_at_scale(name, ranks), 4):
            answer = {NAME: gradient}
            if not is_right([answer], expected, {}):
                yield Wrong(name, diagnosis.virtual_names(ranks, answer))
