"""What is sent to a world: one question to one implementation, with its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from conformance.cases.case import Question
from conformance.registry import Implementation


@dataclass(frozen=True)
class Ask:
    """A check as the world needs it: nothing in it tells the right answer."""

    implementation: Implementation
    question: Question
    inputs: Mapping[str, np.ndarray]
    device: str
