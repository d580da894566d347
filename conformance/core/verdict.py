"""From what came back to a status and a reason in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from conformance.channel_shuffle import diagnosis as shuffle_diagnosis
from conformance.channel_shuffle.diagnosis import Diagnosis
from conformance.core.bounds import departure
from conformance.core.checks import Check
from conformance.core.comparison import difference, sha256_of_answer
from conformance.core.outcomes import Answer, Declined, Fate, Outcome, Raised
from conformance.core.questions import BehaviourQuestion, GradientQuestion, VirtualQuestion
from conformance.gradient_mean import diagnosis as gradient_diagnosis
from conformance.gradient_mean import virtual_diagnosis
from conformance.gradient_mean.parts import Work
from conformance.mistakes import catalogue
from conformance.processes.root_cause import verdict_rank
from conformance.run.goldens import Golden, make, sha256_of
from conformance.run.known import Known, entry_for

Status = Literal[
    "exact",
    "within-bound",
    "known",
    "fail",
    "error",
    "crash",
    "timeout",
    "unsupported",
    "not-exercised",
]
STATUSES: tuple[Status, ...] = (
    "exact",
    "within-bound",
    "known",
    "fail",
    "error",
    "crash",
    "timeout",
    "unsupported",
    "not-exercised",
)
Held = TypeVar("Held", np.ndarray, str)
RIGHT = frozenset({"exact", "within-bound"})
NOT_CONFORMING = frozenset({"fail", "error", "crash", "timeout"})
ASIDE = frozenset({"unsupported", "not-exercised"})  # nothing was asked


@dataclass(frozen=True)
class Verdict:
    """A status, the reason in words, and the mistake that it looks like, if any.

    `answer` is the SHA-256 of the answer, None where there is none. `fits` are all the mistakes
    that give a wrong answer like this one; there is a `mistake` where it is just one.
    """

    status: Status
    reason: str = ""
    mistake: str | None = None
    error_over_bound: float | None = None
    answer: str | None = None
    fits: tuple[str, ...] = ()


def judge(
    check: Check, golden: Golden, outcomes: Sequence[Outcome], known: Sequence[Known] = ()
) -> Verdict:
    """The verdict on the outcomes of one check, one of each rank."""
    verdict = _judge(check, golden, outcomes)
    entry = entry_for(check.id, known)
    if entry is None or verdict.status in ASIDE:
        return verdict
    if verdict.status in NOT_CONFORMING:
        reason = f"{entry.words} ({entry.reference}, known since {entry.dated})"
        return replace(verdict, status="known", reason=reason)
    return Verdict(
        "fail",
        f"impls/known.toml says since {entry.dated} that this differs ({entry.reference}), "
        "and it does not: remove the entry",
        answer=verdict.answer,
    )


def _judge(check: Check, golden: Golden, outcomes: Sequence[Outcome]) -> Verdict:
    decisive = verdict_rank(outcomes)
    rank = f"rank {decisive}: " if len(outcomes) > 1 else ""
    match outcomes[decisive]:
        case Declined(status, reason):
            return Verdict(status, reason)
        case Fate(status, reason):
            return Verdict(status, rank + reason)
        case Raised() as raised:
            return _judge_raised(check, raised, rank)
        case Answer():
            return _judge_answers(check, golden, [o for o in outcomes if isinstance(o, Answer)])


def _judge_raised(check: Check, raised: Raised, rank: str) -> Verdict:
    case = check.case
    place = f" at {raised.where}" if raised.where else ""
    words = f"{rank}raised {raised.type}{place}: {raised.message}".rstrip(": ")
    if case.refusal is None or raised.type == "WrongAnswer":
        return Verdict("error", rank + raised.message if raised.type == "WrongAnswer" else words)
    if check.implementation.promise != "native":
        return Verdict("exact", f"refused: {raised.type}")
    if case.refusal.type not in (raised.type, *raised.bases):
        return Verdict("error", f"{words}; promised is {case.refusal.type}")
    if case.refusal.words not in raised.message:
        return Verdict("error", f"{words}; promised are the words {case.refusal.words!r}")
    return Verdict("exact", f"refused: {raised.type}")


def _judge_answers(check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
    case, given = check.case, answers[0].arrays
    if isinstance(case.question, GradientQuestion):
        return _judge_gradients(check, golden, answers)
    if isinstance(case.question, VirtualQuestion):
        return _judge_virtual(check, golden, answers[0])
    digest = sha256_of_answer(given)
    if isinstance(case.question, BehaviourQuestion):
        return _judge_behaviour(golden, answers, digest)
    if case.refusal is not None:
        names = shuffle_diagnosis.accepted_refusal(case, golden.inputs, given)
        return _wrong(
            "error", f"gave an answer where {case.refusal.type} is promised", names, digest
        )
    if golden.hashes:
        if {name: sha256_of(array) for name, array in given.items()} == dict(golden.hashes):
            return Verdict("exact", answer=digest)
        golden = make(case)  # large cases keep hashes only: made again to say what is wrong
    found = difference(given, golden.answers)
    if found is None:
        return Verdict("exact", answer=digest)
    diagnosis = shuffle_diagnosis.diagnose(case, golden.inputs, given, golden.answers)
    return _wrong("fail", found.words, diagnosis, digest)


def _judge_behaviour(golden: Golden, answers: Sequence[Answer], digest: str) -> Verdict:
    """Every rank must say what the oracle's model of the framework says."""
    for rank, answer in enumerate(answers):
        found = difference(answer.arrays, golden.answers)
        if found is not None:
            where = f"rank {rank}: " if len(answers) > 1 else ""
            return Verdict("fail", where + found.words, answer=digest)
    return Verdict("exact", answer=digest)


def _judge_gradients(check: Check, golden: Golden, answers: Sequence[Answer]) -> Verdict:
    """Every rank must hold the gradients that the implementation promises."""
    promise = check.implementation.promise
    expected, bounds = promised(golden.answers, promise), promised(golden.bounds, promise)
    given = [with_positive_zeros(answer.arrays) for answer in answers]
    digest = sha256_of_answer(given[0])
    if not bounds:
        found = [difference(one, expected) for one in given]
        furthest = None
    else:
        departures = [departure(one, expected, bounds) for one in given]
        found = [one for one, _ in departures]
        furthest = max(ratio for _, ratio in departures)
    rank = next((rank for rank, one in enumerate(found) if one is not None), None)
    flaw = next((answer.flaw for answer in answers if answer.flaw), "")
    if rank is None and flaw:
        return Verdict("fail", f"{flaw}; the first is right", answer=digest)
    if rank is None:
        status: Status = "within-bound" if bounds else "exact"
        return Verdict(status, error_over_bound=furthest, answer=digest)
    first = found[rank]
    assert first is not None
    work = Work(check.case.question, golden.inputs, promise)
    diagnosis = gradient_diagnosis.diagnose(work, expected, bounds, given)
    where = f"rank {rank}: " if len(answers) > 1 else ""
    words = "; ".join(filter(None, (flaw, where + first.words)))
    verdict = _wrong("fail", words, diagnosis, digest)
    return replace(verdict, error_over_bound=furthest)


def _judge_virtual(check: Check, golden: Golden, given: Answer) -> Verdict:
    """One process answers for all ranks; only where it is wrong is the right answer made again."""
    promise = check.implementation.promise
    arrays = with_positive_zeros(given.arrays)
    digest = sha256_of_answer(arrays)
    if {name: sha256_of(array) for name, array in arrays.items()} == promised(
        golden.hashes, promise
    ):
        verdict = Verdict("fail", f"{given.flaw}; the first is right") if given.flaw else None
        return replace(verdict or Verdict("exact"), answer=digest)
    golden = make(check.case)
    expected = promised(golden.answers, promise)
    found = difference(arrays, expected)
    if found is None:
        return Verdict("exact", answer=digest)
    diagnosis = virtual_diagnosis.diagnose(check.case.question, golden.inputs, expected, arrays)
    words = "; ".join(filter(None, (given.flaw, found.words)))
    return _wrong("fail", words, diagnosis, digest)


def is_right(
    answers: Sequence[Mapping[str, np.ndarray]],
    expected: Mapping[str, np.ndarray],
    bounds: Mapping[str, np.ndarray],
) -> bool:
    """Whether every rank's gradients are the expected ones, or within their bounds."""
    given = map(with_positive_zeros, answers)
    if bounds:
        return all(departure(one, expected, bounds)[0] is None for one in given)
    return all(difference(one, expected) is None for one in given)


def with_positive_zeros(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """No sum promises the sign of a zero: it depends on the order of the terms."""
    return {
        name: array + array.dtype.type(0) if array.dtype.kind in "fV" else array
        for name, array in arrays.items()
    }


def promised(arrays: Mapping[str, Held], promise: str) -> dict[str, Held]:
    """A golden's arrays, or their hashes, under one promise, without its name."""
    head = f"{promise}/"
    return {
        name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)
    }


def _wrong(status: Status, words: str, diagnosis: Diagnosis, digest: str) -> Verdict:
    by_name = {mistake.name: mistake for mistake in catalogue()}
    match diagnosis.names:
        case ():
            read = "matches no known mistake"
        case (name,):
            read = f"{name}: {by_name[name].done}. {by_name[name].advice}"
        case several:
            read = f"could be {' or '.join(several)}: this case cannot tell them apart"
    reason = "; ".join(filter(None, (words, diagnosis.evidence, read)))
    only = diagnosis.names[0] if len(diagnosis.names) == 1 else None
    return Verdict(status, reason, only, answer=digest, fits=diagnosis.names)
