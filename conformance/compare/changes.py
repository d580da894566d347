"""What may be changed in a run of an original, whatever its framework."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance.compare.catalogue import Cause


@dataclass(frozen=True)
class Option:
    """One way to do otherwise what a function does; `made` takes its arguments."""

    cause: Cause
    made: Callable[..., Any]

    @property
    def key(self) -> tuple[str, str]:
        """What options of several calls have in common."""
        return self.cause.name, self.cause.words


@dataclass(frozen=True)
class Site:
    """One call of a function in a run.

    Attributes:
        number: how many were called before it.
        module: the submodule in which it is called, where that is known.
        since: how many calls of submodules had ended before.
        options: what may be done instead.
        name: of the function.
    """

    number: int
    module: str
    since: int
    options: tuple[Option, ...]
    name: str
