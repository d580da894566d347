"""Probes: what a framework's own classes do, beside the values that they compute.

One module per document, like the clauses. A probe is a function of a `Place` and keyword arguments;
`conformance.oracle.behaviours` has a function of the same name in a module of the same name, of the
keyword arguments alone, which says without any framework what the probe must answer.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

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
        probe: `module.function` in this package.
        place: where.
        arguments: the function's keyword arguments.
    """
    module, _, function = probe.partition(".")
    found = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return cast("Answers", found(place, **arguments))
