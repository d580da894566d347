"""Where a task runs: which of how many ranks, and how they are joined."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rank:
    """What a function that runs in a rank's process knows of its place among the ranks.

    Attributes:
        index: this rank, from 0.
        size: how many ranks take part.
        group: the torch process group of these ranks; None where the process has none.
    """

    index: int
    size: int
    group: Any = None
