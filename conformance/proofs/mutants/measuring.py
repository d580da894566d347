"""Putting the cases to a mutant until one sees it; and what to think of one that none sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import HealthCheck, Phase, given, seed, settings

from conformance.core.checks import Check, asks
from conformance.core.implementations import Implementation
from conformance.core.questions import AnyCase
from conformance.core.verdict import NOT_CONFORMING, RIGHT, Verdict
from conformance.proofs.fuzz.rounds import certified

Examine = Callable[[Check], Verdict]
Drawn = Callable[[], Sequence[AnyCase]]
Fate = Literal["stillborn", "killed", "equivalent", "survived"]
DEVICE = "cpu"
RANDOM = 1000  # drawn cases on which an equivalent mutant gives the right answers


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes:
        fate: `stillborn` where it raised on the very first case, `killed` where a later case, or
            a wrong answer to the first, shows it, `equivalent` where neither the suite nor so many
            drawn cases do, `survived` where a drawn case does and the suite does not.
        case: the case that shows it.
        status: with what verdict.
        mistake: which known mistake it looks like.
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
    """The cases that the implementation itself gives the right answers to."""
    mine = [case for case in cases if asks(case, implementation)]
    return [case for case in mine if examine(Check(implementation, case, DEVICE)).status in RIGHT]


def measure(
    changed: Implementation, cases: Sequence[AnyCase], drawn: Drawn, examine: Examine
) -> Outcome:
    """Ask until a case sees it: first those of the suite, then drawn ones.

    Args:
        changed: the mutant.
        cases: of the suite, those that the implementation itself is right in.
        drawn: makes other cases, that the implementation itself is right in.
        examine: asks and judges.
    """
    seen = _first_failure(changed, cases, examine)
    if seen is not None:
        at, status, mistake = seen
        fate: Fate = "stillborn" if at == 0 and status == "error" else "killed"
        return Outcome(fate, cases[at].name, status, mistake, at + 1)
    others = drawn()
    found = _first_failure(changed, others, examine)
    if found is None:
        return Outcome("equivalent", asked=len(cases) + len(others))
    at, status, mistake = found
    return Outcome("survived", others[at].name, status, mistake, len(cases) + at + 1)


def _first_failure(
    changed: Implementation, cases: Sequence[AnyCase], examine: Examine
) -> tuple[int, str, str] | None:
    for at, case in enumerate(cases):
        verdict = examine(Check(changed, case, DEVICE))
        if verdict.status in NOT_CONFORMING:
            return at, verdict.status, verdict.mistake or ""
    return None


def draw(
    operation: str, promise: str, framework: str, count: int, number: int = 0
) -> list[AnyCase]:
    """So many different drawn cases that are asked of who promises this.

    >>> len(draw("channel_shuffle", "copy", "numpy", 3))
    3
    """
    found: dict[AnyCase, None] = {}
    asked = Implementation(operation, "any", framework, promise, "one_process", None, "", 0)
    while len(found) < count:

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
            if asks(case, asked):
                found[case] = None

        once()
        number += 1
    return list(found)[:count]
