"""Probes: what a framework's own classes do, beside the values that they compute.

A probe is a function of a `Place` and keyword arguments. Beside each `…_probe.py` stands a
`…_model.py` with functions of the same names, of the keyword arguments alone, which say without any
framework what the probe must answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from conformance.behaviours.lookup import function_of

Answers = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Place:
    """Where a probe runs.

    Attributes:
        implementation: the name of the implementation that is asked, which uses the class probed.
        device: `cpu`, `cuda`, …
        rank: this process, from 0; `world_size` of them run the probe together.
        group: their torch process group, where the implementation runs per rank.
    """

    implementation: str
    device: str
    rank: int = 0
    world_size: int = 1
    group: Any = None


def run(probe: str, place: Place, arguments: Mapping[str, Any]) -> Answers:
    """What the framework does, as named arrays; a text is an array of u8 (`dtypes.text`).

    Args:
        probe: its name, as the question has it.
        place: where.
        arguments: the function's keyword arguments.
    """
    return cast("Answers", function_of(probe, "probe")(place, **arguments))
