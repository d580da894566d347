"""One question to one implementation, with its inputs, as it is sent to a world's processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

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


def loaded(implementation: Implementation) -> Callable[..., Any]:
    """Returns the implementation's function, imported in this process.

    Raises:
        Unsupported: if it needs a package that is not installed.
    """
    try:
        return function_of(implementation)
    except ModuleNotFoundError as error:
        raise Unsupported(f"{error.name} is not installed") from error
