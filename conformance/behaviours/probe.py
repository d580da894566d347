"""Probes, which ask what a framework's own classes do beside the values that they compute.

A probe is a function of a `Place` and keyword arguments. Beside each `…_probe.py` stands a
`…_model.py` with functions of the same names, which take the keyword arguments alone and return,
without any framework, what the probe must answer.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from conformance.behaviours.model import MODELS

Answers = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Place:
    """The place where a probe runs.

    Attributes:
        implementation: the name of the implementation of the check, which uses the probed class.
        device: `cpu`, `cuda`, …
        rank: the number of this process, from 0; `world_size` processes run the probe together.
        group: the processes' torch group, where the implementation runs per rank.
    """

    implementation: str
    device: str
    rank: int = 0
    world_size: int = 1
    group: Any = None


def run(probe: str, place: Place, arguments: Mapping[str, Any]) -> Answers:
    """Runs a probe; returns named arrays, in which a text is an array of u8 (`dtypes.text`).

    Args:
        probe: the probe's name, as the question has it.
        place: the place where it runs.
        arguments: the function's keyword arguments.
    """
    subject, _, function = probe.partition(".")
    beside = MODELS[subject].__name__.removesuffix("model") + "probe"
    # A probe imports a framework, and so is only imported where it runs.
    return cast("Answers", getattr(importlib.import_module(beside), function)(place, **arguments))
