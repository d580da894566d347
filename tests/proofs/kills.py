"""What each case kills, asked once in a process: several files look at it."""

from functools import cache

from conformance.core.questions import AnyCase
from conformance.proofs import kill_matrix as killing


@cache
def kills_of(case: AnyCase) -> tuple[killing.Kill, ...]:
    """What `killing.kills` says of one case."""
    return tuple(killing.kills([case]))


def kills_of_all(cases: list[AnyCase]) -> tuple[killing.Kill, ...]:
    """What it says of these, in their order."""
    return tuple(kill for case in cases for kill in kills_of(case))
