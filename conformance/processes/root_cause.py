"""Finds the rank whose outcome explains the others: one failure makes its peers fail after it."""

import re
from collections.abc import Sequence
from typing import Any

from conformance.core.outcomes import Declined, Fate, Raised

# Gloo and JAX's coordination service say this in the ranks that outlive a dead one.
_SECONDARY = re.compile(
    r"connection (closed|reset) by peer|connection refused|broken pipe|"
    r"(peer|another) (task|rank)s? (has )?(died|failed)|heartbeat timeout|coordination ?service",
    re.IGNORECASE,
)
# A late rank that waits inside a library waits for another; see `stack_frames.described`.
_WAITING = re.compile(r", inside \S+")


def verdict_rank(outcomes: Sequence[Any]) -> int:
    """Returns the rank whose outcome explains the others.

    A crash comes before an error, an error before a timeout, and all of these before what merely
    follows from another rank's end. Of equals the first rank counts.

    Args:
        outcomes: what `World.run` returned, one for each rank.
    """
    return min(range(len(outcomes)), key=lambda rank: (_urgency(outcomes[rank]), rank))


def is_failure(outcome: Any) -> bool:
    """Says whether a rank with this outcome leaves its peers without an answer."""
    return isinstance(outcome, Raised | Declined | Fate)


def _urgency(outcome: Any) -> int:
    match outcome:
        case Fate("crash", reason):
            return 1 if _SECONDARY.search(reason) else 0
        case Raised(_, message):
            return 5 if _SECONDARY.search(message) else 2
        case Fate(_, reason):
            return 4 if _WAITING.search(reason) else 3
        case Declined():
            return 6
        case _:
            return 7
