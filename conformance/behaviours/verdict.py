"""The verdict on the behaviour of a framework's own class."""

from collections.abc import Sequence
from dataclasses import replace

from conformance.core.checks import Check
from conformance.core.comparison import difference, sha256_of_answer
from conformance.core.golden import Golden
from conformance.core.outcomes import Answer
from conformance.core.verdict import Evidence, Verdict


def judge(check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
    """Judges a probe's answers: every rank must answer what the model answers."""
    del check
    digest = sha256_of_answer(answers[0].arrays)
    for rank, answer in enumerate(answers):
        differs = difference(answer.arrays, golden.answers)
        if differs is not None:
            where = f"rank {rank}: " if len(answers) > 1 else ""
            words = where + differs.words
            evidence = Evidence(replace(differs, words=words))
            return Verdict("fail", words, answer=digest, evidence=evidence)
    return Verdict("exact", answer=digest)
