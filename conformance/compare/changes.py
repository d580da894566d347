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
class Previous:
    """What came before a call: the function, and the reshape that split an axis.

    Attributes:
        name: of the last function that gave a tensor.
        split: what was split, until it is merged again.
        shape: into what.
    """

    name: str = ""
    split: Any = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Site:
    """One call of a function in a run.

    Attributes:
        number: how many were called before it.
        module: the submodule in which it is called, where that is known.
        since: how many calls of submodules had ended before.
        options: what may be done instead.
        name: of the function.
        depends: the bits of the calls that its arguments were made of.
    """

    number: int
    module: str
    since: int
    options: tuple[Option, ...]
    name: str
    depends: int
