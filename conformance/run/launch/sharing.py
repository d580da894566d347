"""The checks that fit the ranks of a launch, and the checks that do not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from conformance.core.checks import Check
from conformance.core.outcomes import UsageError
from conformance.run.plan import Plan


class CutShortError(Exception):
    """Another process of the launch ended; the message says which, and how that was noticed."""


@dataclass(frozen=True)
class Sharing:
    """A plan for a launch: the checks for all ranks, and why some do not fit.

    Attributes:
        plan: the checks for a launch, in their order.
        refused: the reasons why some checks do not fit this launch, by check id.
        left_out: how many checks of the patterns are not for a launch at all.
    """

    plan: Plan
    refused: dict[str, str]
    left_out: int


def shared(
    plan: Plan,
    is_for_launches: Callable[[Check], bool],
    refusal: Callable[[Check], str],
    whose: str,
) -> Sharing:
    """Divides a plan into checks for a launch and other checks.

    Args:
        plan: the checks of the patterns.
        is_for_launches: says whether a check needs several processes.
        refusal: returns why a check does not fit this launch, or an empty text.
        whose: names the implementations of such checks, for the error.

    Raises:
        UsageError: if no check is for a launch.
    """
    chosen = tuple(check for check in plan.checks if is_for_launches(check))
    if not chosen:
        raise UsageError(
            f"none of these {len(plan.checks)} checks is of {whose}; `conformance run` asks them"
        )
    refused = {check.id: reason for check in chosen if (reason := refusal(check))}
    return Sharing(replace(plan, checks=chosen, whole=()), refused, len(plan.checks) - len(chosen))


def in_words(sharing: Sharing, where: str) -> Sequence[str]:
    """Returns the lines that a run begins with: how many checks are asked, and how many are not."""
    count = len(sharing.plan.checks) - len(sharing.refused)
    lines = [f"{where}: {count} checks fit and are asked"]
    if sharing.refused:
        lines.append(f"{len(sharing.refused)} do not fit, and are unsupported here")
    if sharing.left_out:
        lines.append(f"{sharing.left_out} live in one process: `conformance run` asks them")
    return lines
