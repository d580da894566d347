"""What a launch can be asked: which checks fit its ranks, and which do not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from conformance.core.checks import Check
from conformance.core.outcomes import UsageError
from conformance.run.plan import Plan


class CutShortError(Exception):
    """Another process of the launch ended; the message says which, and how that was seen."""


@dataclass(frozen=True)
class Sharing:
    """How a plan is shared out: what is asked of all, and what does not fit, with the reasons.

    Attributes:
        plan: the checks that this launch is for, in their order.
        refused: why some of them cannot be asked here, by check id.
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
    """Divide a plan.

    Args:
        plan: what the patterns mean.
        is_for_launches: whether a check needs several processes.
        refusal: why a check does not fit this launch; empty where it does.
        whose: of which implementations such checks are, for the error.

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
    """What a run says before it begins: how many checks are asked, and how many are not."""
    asked = len(sharing.plan.checks) - len(sharing.refused)
    lines = [f"{where}: {asked} checks fit and are asked"]
    if sharing.refused:
        lines.append(f"{len(sharing.refused)} do not fit, and are unsupported here")
    if sharing.left_out:
        lines.append(f"{sharing.left_out} live in one process: `conformance run` asks them")
    return lines
