"""What frameworks' own classes must do: a model of each probe's answer, without any framework.

One module per document and one function per probe, as in `conformance.frameworks.probes`.
"""

import importlib
from typing import cast

import numpy as np

from conformance.cases.case import BehaviourQuestion


def answer(question: BehaviourQuestion) -> dict[str, np.ndarray]:
    """The named arrays that a framework must give; the same on every rank."""
    module, _, function = question.probe.partition(".")
    found = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return cast("dict[str, np.ndarray]", found(**dict(question.arguments)))
