"""Causes by name: those of ports, and those of the operations of this suite."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from conformance.compare.mistakes import MISTAKES, PortingMistake
from conformance.core.mistake import Mistake
from conformance.core.outcomes import UsageError
from conformance.subjects import catalogue as of_operations


def all_mistakes() -> tuple[Mistake[Any] | PortingMistake, ...]:
    """Every mistake that has a name: those of the operations, then those of ports."""
    return (*of_operations(), *MISTAKES)


_BY_NAME = {m.name: m for m in all_mistakes()}


def named(names: Iterable[str]) -> frozenset[str]:
    """These names, all of which something explains.

    Raises:
        UsageError: for one that nothing does; it tells the nearest.
    """
    for name in names:
        if name not in _BY_NAME:
            near = ", ".join(get_close_matches(name, _BY_NAME, cutoff=0.3)) or "nothing"
            raise UsageError(
                f"no cause is called {name!r}; nearest: {near}; `conformance list mistakes` names "
                "them all"
            )
    return frozenset(names)


@dataclass(frozen=True)
class Cause:
    """What an answer shows: the name of a known mistake, and what was seen of it, in words.

    Raises:
        ValueError: for a name that nothing explains.
    """

    name: str
    words: str

    def __post_init__(self) -> None:
        """Refuse a name that nobody could look up."""
        if self.name not in _BY_NAME:
            raise ValueError(f"no mistake is called {self.name!r}: it belongs in MISTAKES")

    @property
    def advice(self) -> str:
        """What to write instead."""
        return _BY_NAME[self.name].advice
