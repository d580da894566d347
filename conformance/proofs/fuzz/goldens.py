"""The goldens of drawn cases: each is made when it is drawn, and kept for those who are asked."""

from functools import lru_cache

from conformance.core.questions import AnyCase
from conformance.run.goldens import Golden, make

_KEPT = 512  # all implementations are asked the same cases, one after another

made = lru_cache(maxsize=_KEPT)(make)


class OnTheFly:
    """Where the right answers to cases are that no suite has."""

    def of(self, case: AnyCase) -> Golden:
        """The golden of a case."""
        return made(case)
