"""One question to one implementation, with its inputs, as it is sent to a world's processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol

import numpy as np

from conformance.core.implementations import Implementation, function_of
from conformance.core.outcomes import Unsupported
from conformance.core.questions import Asked_co


@dataclass(frozen=True)
class Ask(Generic[Asked_co]):
    """A check as the ranks' processes get it: without the right answer."""

    implementation: Implementation
    question: Asked_co
    inputs: Mapping[str, np.ndarray]
    device: str


class Rank(Protocol):
    """A rank as the code that runs in its process sees it; `conformance.processes.Rank` is one."""

    @property
    def index(self) -> int:
        """Returns this rank's number, from 0."""
        ...

    @property
    def size(self) -> int:
        """Returns how many ranks take part."""
        ...

    @property
    def group(self) -> Any:
        """Returns the ranks' torch process group, or None in a world that has none."""
        ...


def loaded(implementation: Implementation) -> Callable[..., Any]:
    """Returns the implementation's function, imported in this process.

    Raises:
        Unsupported: if it needs a package that is not installed.
    """
    try:
        return function_of(implementation)
    except ModuleNotFoundError as error:
        raise Unsupported(f"{error.name} is not installed") from error
