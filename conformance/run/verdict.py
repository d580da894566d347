"""The verdict on a check: a status, and a reason in words, from the outcomes of its ranks."""

from collections.abc import Sequence
from dataclasses import replace

from conformance.core.checks import Check
from conformance.core.golden import Golden
from conformance.core.implementations import is_outside
from conformance.core.outcomes import Answer, Declined, Fate, Outcome, Raised
from conformance.core.verdict import ASIDE, NOT_CONFORMING, Verdict
from conformance.processes import verdict_rank
from conformance.run.known import Known, entry_for
from conformance.subjects import subject_of


def judge(
    check: Check, golden: Golden, outcomes: Sequence[Outcome], known: Sequence[Known] = ()
) -> Verdict:
    """Returns the verdict on the outcomes of a check's ranks."""
    verdict = _judge(check, golden, outcomes)
    entry = entry_for(check, known, verdict)
    if entry is None or verdict.status in ASIDE:
        return verdict
    if verdict.status in NOT_CONFORMING and entry.excuses(verdict):
        name = f"{entry.mistake}: " if entry.mistake else ""
        reason = f"{name}{entry.words} ({entry.reference}, known since {entry.dated})"
        return replace(
            verdict, status="known", reason=reason, mistake=entry.mistake or verdict.mistake
        )
    if entry.adapters:
        return verdict
    if verdict.status in NOT_CONFORMING:
        other = f"not what {entry.file} has on record ({entry.reference})"
        return replace(verdict, reason=f"{verdict.reason}; {other}")
    return Verdict(
        "fail",
        f"{entry.file} says since {entry.dated} that this differs ({entry.reference}), "
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
            answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
            return subject_of(check.case).judge(check, golden, answers)


def _may_decline(check: Check) -> bool:
    """Says whether an error may say what is not there: of code from outside that is not torch's."""
    return is_outside(check.implementation) and check.implementation.promise != "native"


def _judge_raised(check: Check, raised: Raised, rank: str) -> Verdict:
    case = check.case
    place = f" at {raised.where}" if raised.where else ""
    words = f"{rank}raised {raised.type}{place}: {raised.message}".rstrip(": ")
    if raised.type == "NotImplementedError" and _may_decline(check):  # It may say so everywhere.
        return Verdict("unsupported", f"not implemented{place}: {raised.message}".rstrip(": "))
    if case.refusal is None or raised.type == "WrongAnswer":
        return Verdict("error", rank + raised.message if raised.type == "WrongAnswer" else words)
    if check.implementation.promise != "native":
        return Verdict("exact", f"refused: {raised.type}")
    if case.refusal.type not in (raised.type, *raised.bases):
        return Verdict("error", f"{words}; promised is {case.refusal.type}")
    if case.refusal.words not in raised.message:
        return Verdict("error", f"{words}; promised are the words {case.refusal.words!r}")
    return Verdict("exact", f"refused: {raised.type}")
