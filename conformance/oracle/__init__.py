"""The right answers, without any framework."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from conformance.arithmetic import Lattice
from conformance.arithmetic.running import Approximate
from conformance.arithmetic.system import FORMATS, Bits
from conformance.behaviours import model as behaviours
from conformance.channel_shuffle import definition as channel_shuffle
from conformance.channel_shuffle import inputs as shuffle_cases
from conformance.core.dtypes import DTYPES
from conformance.core.questions import (
    AnyCase,
    BehaviourQuestion,
    GradientQuestion,
    ShuffleQuestion,
    VirtualQuestion,
)
from conformance.gradient_mean import definition as gradient_mean
from conformance.gradient_mean import inputs as drawing
from conformance.gradient_mean import noise
from conformance.gradient_mean import virtual_definition as virtual_ranks

__all__ = ["Solution", "bounds_at", "loses", "solve"]


@dataclass(frozen=True)
class Solution:
    """What a case asks with, and what must come back.

    Attributes:
        inputs: what an implementation is given, by name.
        answers: what it must give, by name; nothing where it must refuse.
        bounds: how far it may be from the answers of the same names, in float64, where the case
            is bounded.
        certificate: why nothing can round, where an exact case could have.
    """

    inputs: Mapping[str, np.ndarray]
    answers: Mapping[str, np.ndarray]
    bounds: Mapping[str, np.ndarray] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None


def solve(case: AnyCase) -> Solution:
    """Draw a case's inputs and answer it.

    A refusal that is asked of everybody has no answer; one that is torch's alone has none here
    either, since another case asks the others.
    """
    match case.question:
        case ShuffleQuestion() as question:
            inputs = shuffle_cases.inputs(question)
            if case.refusal is not None:
                return Solution(inputs, {})
            return Solution(inputs, channel_shuffle.answer(question, inputs))
        case BehaviourQuestion() as question:
            return Solution({}, behaviours.answer(question))
        case GradientQuestion() as question if question.tier == "bounded":
            return _bounded(question, case.promises or gradient_mean.PROMISES)
        case GradientQuestion() as question:
            return _exact(question, case.promises or gradient_mean.PROMISES)
        case VirtualQuestion() as question:
            inputs = virtual_ranks.inputs(question)
            answer, limits = virtual_ranks.answer(question, inputs)
            return Solution(inputs, answer, certificate=asdict(limits))
        case other:
            raise TypeError(f"no oracle for a {type(other).__name__}")


def _exact(question: GradientQuestion, promises: Sequence[str]) -> Solution:
    inputs = drawing.inputs(question, promises)
    lattice = Lattice(question.dtype)
    tensors = gradient_mean.answer(lattice, question, inputs, promises)
    carrier = DTYPES[question.dtype].carrier
    answers = {name: grid.values.astype(carrier) for name, grid in tensors.items()}
    certificate = drawing.certificate(question, lattice.limits, tensors)
    return Solution(inputs, _observed(question, promises, answers), certificate=certificate)


def _bounded(question: GradientQuestion, promises: Sequence[str]) -> Solution:
    from conformance.arithmetic.ball import Ball, rounded  # needs python-flint

    inputs = drawing.inputs(question, promises)
    truths = gradient_mean.answer(Ball(), question, inputs, promises)
    answers = {name: rounded(balls, question.dtype) for name, balls in truths.items()}
    errors = gradient_mean.answer(gradient_mean.running(question), question, inputs, promises)
    return Solution(inputs, *_with_bounds(question, promises, answers, errors))


def loses(case: AnyCase, kept: Bits) -> bool:
    """Whether products of matrices of so many bits are coarser than the dtype of a question."""
    question = case.question
    if not isinstance(question, GradientQuestion):
        return False
    return min(kept.factors, kept.sums) < FORMATS[question.dtype][0]


def bounds_at(
    case: AnyCase, inputs: Mapping[str, np.ndarray], kept: Bits
) -> Mapping[str, np.ndarray]:
    """The bounds of a bounded case where products of matrices keep so many bits.

    Raises:
        Uncertain: if a sign or an order depends on what is lost.
    """
    question, promises = case.question, case.promises or gradient_mean.PROMISES
    assert isinstance(question, GradientQuestion)
    numbers = gradient_mean.running(question, kept)
    errors = gradient_mean.answer(numbers, question, inputs, promises)
    answers = {name: approximate.value for name, approximate in errors.items()}
    return _with_bounds(question, promises, answers, errors)[1]


def _with_bounds(
    question: GradientQuestion,
    promises: Sequence[str],
    answers: Mapping[str, np.ndarray],
    errors: Mapping[str, Approximate],
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """What is observed of the answers, and how far it may be off."""
    bounds = {
        name: gradient_mean.bound(errors[name], answers[name], question.dtype) for name in answers
    }
    if question.observe == "noise":  # what is dropped does not count, and its bound does not either
        bounds = {name: np.where(answers[name] == 0, 0, bounds[name]) for name in answers}
    observed, off = (_observed(question, promises, arrays) for arrays in (answers, bounds))
    whether = {name for name, array in observed.items() if array.dtype.kind == "b"}
    # Of what is true or false nothing may be off.
    return observed, {
        name: array * 0.0 if name in whether else array for name, array in off.items()
    }


def _observed(
    question: GradientQuestion, promises: Sequence[str], gradients: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """What is read off gradients, or off their bounds, where that is what is asked for."""
    if question.observe != "noise":
        return gradients
    return {
        f"{promise}/{name}": array
        for promise in promises
        for name, array in noise.read(
            question,
            {
                name.removeprefix(f"{promise}/"): g
                for name, g in gradients.items()
                if name.startswith(f"{promise}/")
            },
        ).items()
    }
