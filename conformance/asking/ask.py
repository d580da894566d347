"""What is sent to a world: one question to one implementation, with its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol

import numpy as np

from conformance.cases.case import Asked_co
from conformance.registry import Implementation


@dataclass(frozen=True)
class Ask(Generic[Asked_co]):
    """A check as the world needs it: nothing in it tells the right answer."""

    implementation: Implementation
    question: Asked_co
    inputs: Mapping[str, np.ndarray]
    device: str


class Rank(Protocol):
    """What a world tells a function of where it runs, as `conformance.worlds.Rank` has it."""

    @property
    def index(self) -> int:
        """This rank, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many ranks take part."""
        ...

    @property
    def group(self) -> Any:
        """Their torch process group; None in a world that has none."""
        ...
