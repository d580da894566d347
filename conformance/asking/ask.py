"""What is sent to a world: one question to one implementation, with its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic

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
