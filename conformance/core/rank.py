"""Where a task runs: which of how many ranks, and how they are joined."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rank:
    """What a function that runs in a rank's process knows of its place among the ranks.

    Attributes:
        index: this rank, from 0.
        size: how many ranks take part.
        group: the torch process group of these ranks; None where the process has none.
        changes: the function may add what it changed in its process and left so, in words: the
            process is replaced then.
    """

    index: int
    size: int
    group: Any = None
    changes: list[str] = field(default_factory=list, compare=False)
