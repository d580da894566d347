"""A process's place among the ranks."""

from collections.abc import Hashable
from typing import Protocol

from conformance.processes.task import Rank


class Station(Protocol):
    """What a process knows of its peers."""

    def rank(self, size: int) -> Rank:
        """This process as one of the first `size` ranks."""
        ...

    def standing(self, size: int) -> Hashable:
        """What must be the same in all of these ranks, and not None, for them to work together."""
        ...


class Alone:
    """The place of a process that has no peers."""

    def __init__(self, place: None) -> None:
        """Need nothing."""

    def rank(self, size: int) -> Rank:
        """The only one."""
        return Rank(0, size)

    def standing(self, size: int) -> Hashable:
        """Always sound."""
        del size
        return ()
