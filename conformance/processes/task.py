"""What a world is asked to run, what it promises, and how one rank joins its peers."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from conformance.core.rank import Rank


@dataclass(frozen=True)
class Task:
    """A function to call once in every rank.

    Attributes:
        function: where it is, as "package.module:name"; it is called as `function(payload, rank)`.
        payload: its first argument, the same in every rank; anything that pickles.
        ranks: how many ranks take part.
        limit: how many bytes the arrays may have that one rank returns.
        kinds: the frozen dataclasses that its value may be made of, beside outcomes, arrays and
            plain data: nothing else is read from a rank.
    """

    function: str
    payload: Any
    ranks: int = 1
    limit: int = 1 << 30
    kinds: tuple[type, ...] = ()


class World(Protocol):
    """Processes that run tasks; for one thread at a time, only `close` may come from another."""

    def run(self, task: Task, timeout: float) -> list[Any]:
        """Returns the value of each rank, in order, or an outcome that says how the rank failed.

        The world starts at its first task, and starts again at the first one after anything
        abnormal. Starting is not on the task's clock.

        Args:
            task: what to run.
            timeout: seconds that the task may take.
        """
        ...

    def close(self) -> None:
        """Ends every process; a task that still runs comes back as a crash."""
        ...

    @property
    def changes(self) -> Sequence[str]:
        """What the last task changed in its processes, which were replaced for that; in words."""
        ...


class Rendezvous(Protocol):
    """How a process meets its peers; made in the process itself, from its address."""

    def rank(self, size: int) -> Rank:
        """Returns this process as one of the first `size` ranks."""
        ...

    def sync_state(self, size: int) -> Hashable:
        """Returns what must be equal in all of these ranks, and not None, for another task."""
        ...


class SingleRank:
    """The rendezvous of a process that has no peers."""

    def __init__(self, address: None) -> None:
        """Joins nobody."""

    def rank(self, size: int) -> Rank:
        """Returns the only rank."""
        return Rank(0, size)

    def sync_state(self, size: int) -> Hashable:
        """Returns a constant: no peer can be out of step."""
        del size
        return ()


def name_of(code: Callable[..., Any]) -> str:
    """Names a function or class for another process, which `replies.resolve` finds there.

    >>> name_of(SingleRank)
    'conformance.processes.task:SingleRank'
    """
    return f"{code.__module__}:{code.__qualname__}"
