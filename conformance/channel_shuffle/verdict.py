"""The verdict on answers about channel shuffle."""

from collections.abc import Iterator, Sequence

from conformance.channel_shuffle.diagnosis import ACCEPTED, accepted_refusal, answer_of, diagnose
from conformance.channel_shuffle.inputs import solve
from conformance.channel_shuffle.mistakes import MISTAKES
from conformance.core.checks import Check
from conformance.core.comparison import difference, sha256_of_answer
from conformance.core.golden import Golden, hashes_of
from conformance.core.mistake import Wrong
from conformance.core.outcomes import Answer
from conformance.core.questions import ShuffleCase
from conformance.core.verdict import Verdict, wrong


def judge(check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
    """Judges an answer exactly: it is wrong where any bit differs."""
    case, arrays = check.case, answers[0].arrays
    digest = sha256_of_answer(arrays)
    if case.refusal is not None:
        words = f"gave an answer where {case.refusal.type} is promised"
        accepted = accepted_refusal(case, golden.inputs, arrays)
        return wrong("error", words, accepted, digest, MISTAKES)
    if golden.hashes:
        if hashes_of(arrays) == dict(golden.hashes):
            return Verdict("exact", answer=digest)
        # The golden of a large case is hashes; the arrays are needed to say what is wrong.
        golden = solve(case)
    differs = difference(arrays, golden.answers)
    if differs is None:
        return Verdict("exact", answer=digest)
    diagnosis = diagnose(case, golden.inputs, arrays, golden.answers)
    return wrong("fail", differs.words, diagnosis, digest, MISTAKES, differs)


def wrong_answers(case: ShuffleCase, golden: Golden) -> Iterator[Wrong]:
    """Yields the wrong answers that the known mistakes give to a case, each with its names."""
    inputs = golden.inputs
    if case.refusal is not None:
        # Every answer is wrong here, whatever it is.
        accepted = answer_of(ACCEPTED, case, inputs)
        if accepted is not None:
            yield Wrong(ACCEPTED, accepted_refusal(case, inputs, accepted).names)
        return
    for mistake in MISTAKES:
        answer = answer_of(mistake.name, case, inputs)
        if answer is not None:
            yield Wrong(mistake.name, diagnose(case, inputs, answer, golden.answers).names)
