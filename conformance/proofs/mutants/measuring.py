"""Measures a mutant: asks it cases until one fails, and classifies a mutant that fails none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import HealthCheck, Phase, given, seed, settings

from conformance.core.checks import Check, asks
from conformance.core.declarations import Implementation, without_averaging
from conformance.core.outcomes import UsageError
from conformance.core.questions import AnyCase
from conformance.core.verdict import NOT_CONFORMING, RIGHT, Verdict
from conformance.proofs.fuzz.rounds import certified

Examine = Callable[[Check], Verdict]
Drawn = Callable[[], Sequence[AnyCase]]
Fate = Literal["stillborn", "killed", "equivalent", "survived"]
DEVICE = "cpu"
# A mutant that is right in so many drawn cases is called equivalent.
RANDOM = 1000


@dataclass(frozen=True)
class Outcome:
    """The outcome of a mutant.

    Attributes:
        fate: `stillborn` where it raised on the very first case, `killed` where a later case, or
            a wrong answer to the first, shows it, `equivalent` where neither the suite nor many
            drawn cases show it, `survived` where a drawn case shows it and the suite does not.
        case: the case that shows it.
        status: the status of that case.
        mistake: the known mistake that its answer shows.
        asked: how many cases were asked in all.
    """

    fate: Fate
    case: str = ""
    status: str = ""
    mistake: str = ""
    asked: int = 0


def right_cases(
    implementation: Implementation, cases: Sequence[AnyCase], examine: Examine
) -> list[AnyCase]:
    """Returns the cases that the implementation itself answers rightly.

    Raises:
        UsageError: if it answers one wrongly, or none: what a change of it does would say nothing.
    """
    right, reason = [], "no case is for it"
    for case in cases:
        if not asks(case, implementation):
            continue
        verdict = examine(Check(implementation, case, DEVICE))
        if verdict.status in ("fail", "error"):
            raise UsageError(
                f"{implementation.id} does not conform ({verdict.mistake or verdict.status} in "
                f"{case.name}), and right code is what is changed; `conformance run` says more"
            )
        if verdict.status in RIGHT:
            right.append(case)
        reason = verdict.reason or reason
    if not right:
        raise UsageError(f"{implementation.id} answers nothing here: {reason}")
    return right


def measure(
    changed: Implementation, cases: Sequence[AnyCase], drawn: Drawn, examine: Examine
) -> Outcome:
    """Asks cases until one fails: first cases of the suite, then drawn cases.

    Args:
        changed: the mutant.
        cases: cases of the suite that the implementation itself answers rightly.
        drawn: draws other cases that the implementation itself answers rightly.
        examine: asks and judges.
    """
    failure = _first_failure(changed, cases, examine)
    if failure is not None:
        index, status, mistake = failure
        fate: Fate = "stillborn" if index == 0 and status == "error" else "killed"
        return Outcome(fate, cases[index].name, status, mistake, index + 1)
    others = drawn()
    drawn_failure = _first_failure(changed, others, examine)
    if drawn_failure is None:
        return Outcome("equivalent", asked=len(cases) + len(others))
    index, status, mistake = drawn_failure
    return Outcome("survived", others[index].name, status, mistake, len(cases) + index + 1)


def _first_failure(
    changed: Implementation, cases: Sequence[AnyCase], examine: Examine
) -> tuple[int, str, str] | None:
    for index, case in enumerate(cases):
        verdict = examine(Check(changed, case, DEVICE))
        if verdict.status in NOT_CONFORMING:
            return index, verdict.status, verdict.mistake or ""
    return None


def draw(
    operation: str, promise: str, framework: str, count: int, number: int = 0
) -> list[AnyCase]:
    """Draws so many different cases that are asked of implementations with this promise.

    >>> len(draw("channel_shuffle", "copy", "numpy", 3))
    3
    """
    cases: dict[AnyCase, None] = {}
    adding = without_averaging(promise)
    implementation = Implementation(
        operation,
        "any",
        framework,
        adding,
        "one_process",
        None,
        "",
        0,
        micro_batches="sum" if adding == promise else "mean",
    )
    while len(cases) < count:

        @seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(certified(operation))
        def once(case: AnyCase) -> None:
            if asks(case, implementation):
                cases[case] = None

        once()
        number += 1
    return list(cases)[:count]
