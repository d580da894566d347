"""What a wrong average over thousands of ranks looks like."""

from collections.abc import Mapping

import numpy as np

from conformance.channel_shuffle.diagnosis import Diagnosis
from conformance.core.comparison import form_difference
from conformance.core.questions import VirtualQuestion
from conformance.gradient_mean.diagnosis import evidence
from conformance.gradient_mean.virtual_definition import NAME
from conformance.gradient_mean.virtual_mistakes import WRONG, Ranks, fits

Arrays = Mapping[str, np.ndarray]


def diagnose(
    question: VirtualQuestion, inputs: Arrays, expected: Arrays, given: Arrays
) -> Diagnosis:
    """Name a wrong answer: its factor, the samples that count wrongly, every mistake recomputed.

    Args:
        question: what was asked.
        inputs: with which tensors.
        expected: the right answer.
        given: the wrong one.
    """
    if set(given) != set(expected) or form_difference(NAME, given[NAME], expected[NAME]):
        return Diagnosis(())
    names = names_of(Ranks(question, inputs), given)
    return Diagnosis(names, "; ".join(evidence(question.model, expected, [given])))


def names_of(ranks: Ranks, given: Arrays) -> tuple[str, ...]:
    """The mistakes one of whose answers is what was given, which is known to be wrong."""
    return tuple(name for name in WRONG if fits(name, ranks, given[NAME]))


def as_answer(gradient: np.ndarray) -> dict[str, np.ndarray]:
    """A gradient (1, P) under its name in an answer."""
    return {NAME: gradient}
