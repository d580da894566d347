"""The verdict on one check, and the evidence that it rests on."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from conformance.core.comparison import Difference
from conformance.core.mistake import Mistake

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
STATUSES: tuple[Status, ...] = get_args(Status)
RIGHT = frozenset({"exact", "within-bound"})
NOT_CONFORMING = frozenset({"fail", "error", "crash", "timeout"})
# The implementation was not asked.
ASIDE = frozenset({"unsupported", "not-exercised"})


@dataclass(frozen=True)
class Evidence:
    """What was read off a wrong answer, as data, so that no report parses another's English.

    Attributes:
        differs: what differs first, and where; its words say of which rank.
        permutation: the p with `output[:, k] = input[:, p[k]]`, where the answer shows one.
        factor: how many times the right gradients the answer is, where that is one number.
        observed: further sentences on what the answer shows.
        done: what the mistake does, where one is named.
        advice: what to write instead.
    """

    differs: Difference | None = None
    permutation: tuple[int, ...] | None = None
    factor: float | None = None
    observed: tuple[str, ...] = ()
    done: str = ""
    advice: str = ""

    def as_object(self) -> dict[str, Any]:
        """Returns the fields that are not empty, ready for JSON."""
        fields: dict[str, Any] = {
            "permutation": None if self.permutation is None else list(self.permutation),
            "factor": self.factor,
            "observed": list(self.observed),
            "done": self.done,
            "advice": self.advice,
        }
        if self.differs is not None:
            fields["differs"] = self.differs.as_object()
        return {name: value for name, value in fields.items() if value not in (None, "", [])}


@dataclass(frozen=True)
class Diagnosis:
    """The names of the mistakes that give an answer, and what else the answer shows."""

    names: tuple[str, ...]
    observed: tuple[str, ...] = ()
    permutation: tuple[int, ...] | None = None
    factor: float | None = None

    @property
    def words(self) -> str:
        """Returns what the answer shows, in one line."""
        return "; ".join(self.observed)


@dataclass(frozen=True)
class Verdict:
    """A status, the reason in words, and the mistake that the answer shows, if any.

    Attributes:
        status: one of `STATUSES`.
        reason: why, in one line.
        mistake: the name of the only mistake that gives such an answer.
        error_over_bound: how much of its bound a bounded answer takes.
        answer: the SHA-256 of the answer, None where there is none.
        fits: all the mistakes that give such an answer.
        evidence: what was read off a wrong answer.
    """

    status: Status
    reason: str = ""
    mistake: str | None = None
    error_over_bound: float | None = None
    answer: str | None = None
    fits: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)


def wrong(
    status: Status,
    words: str,
    diagnosis: Diagnosis,
    digest: str,
    mistakes: Iterable[Mistake[Any]],
    differs: Difference | None = None,
) -> Verdict:
    """Returns the verdict on a wrong answer.

    Args:
        status: `fail`, or `error`.
        words: what is wrong, and where.
        diagnosis: what the answer shows.
        digest: the SHA-256 of the answer.
        mistakes: the known mistakes of the operation.
        differs: what differs first, where an array does.
    """
    by_name = {mistake.name: mistake for mistake in mistakes}
    done = advice = ""
    match diagnosis.names:
        case ():
            mistake_words = "matches no known mistake"
        case (name,):
            done, advice = by_name[name].done, by_name[name].advice
            mistake_words = f"{name}: {done}. {advice}"
        case several:
            mistake_words = f"could be {' or '.join(several)}: this case cannot tell them apart"
    reason = "; ".join(filter(None, (words, *diagnosis.observed, mistake_words)))
    only = diagnosis.names[0] if len(diagnosis.names) == 1 else None
    differs = replace(differs or Difference("", words), words=words)
    evidence = Evidence(
        differs, diagnosis.permutation, diagnosis.factor, diagnosis.observed, done, advice
    )
    return Verdict(status, reason, only, answer=digest, fits=diagnosis.names, evidence=evidence)
