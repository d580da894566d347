"""Models of what frameworks' own classes must answer to each probe, without any framework."""

from typing import cast

import numpy as np

from conformance.behaviours.lookup import function_of
from conformance.core.questions import BehaviourQuestion


def answer(question: BehaviourQuestion) -> dict[str, np.ndarray]:
    """Returns the named arrays that a framework must give, the same on every rank."""
    model = function_of(question.probe, "model")
    return cast("dict[str, np.ndarray]", model(**dict(question.arguments)))
