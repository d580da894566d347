"""What a world is asked to run, and what it promises."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """A function to call once in every rank.

    Attributes:
        function: where it is, as "package.module:name"; it is called as `function(payload, rank)`.
        payload: its first argument, the same in every rank; anything that pickles.
        ranks: how many ranks take part.
    """

    function: str
    payload: Any
    ranks: int = 1


@dataclass(frozen=True)
class Rank:
    """What the function is told of where it runs.

    Attributes:
        index: this rank, from 0.
        size: how many ranks take part.
        group: the torch process group of these ranks; None in worlds that have none.
    """

    index: int
    size: int
    group: Any = None


class World(Protocol):
    """Somewhere to run tasks; for one thread at a time, only `close` may come from another."""

    def run(self, task: Task, timeout: float) -> list[Any]:
        """What each rank gave, in order: its return value, or an outcome that tells its fate.

        The world starts at its first task, and starts again at the first one after anything
        abnormal. Starting is not on the task's clock.

        Args:
            task: what to run.
            timeout: seconds that the task may take.
        """
        ...

    def close(self) -> None:
        """End every process; a task that still runs comes back as a crash."""
        ...
