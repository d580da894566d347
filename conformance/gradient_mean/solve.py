"""The right answers of averaged gradients: exact, or with a derived bound."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from conformance.arithmetic import Lattice
from conformance.arithmetic.running import Approximate
from conformance.core.comparison import Arrays
from conformance.core.dtypes import DTYPES
from conformance.core.formats import FORMATS, Bits
from conformance.core.golden import Golden, keeps_large
from conformance.core.questions import Case, GradientQuestion, VirtualQuestion
from conformance.gradient_mean import definition, inputs, noise, virtual_definition


def solve(case: Case[GradientQuestion]) -> Golden:
    """Draws a case's inputs, and answers it under every promise that it is asked of."""
    promises = case.promises or definition.PROMISES
    if case.question.tier == "bounded":
        return _bounded(case.question, promises)
    return _exact(case.question, promises)


@keeps_large
def solve_virtual(case: Case[VirtualQuestion]) -> Golden:
    """Makes the gradients of thousands of ranks, and their mean."""
    tensors = virtual_definition.inputs(case.question)
    answer, limits = virtual_definition.answer(case.question, tensors)
    return Golden(tensors, answer, certificate=asdict(limits))


def _exact(question: GradientQuestion, promises: Sequence[str]) -> Golden:
    tensors = inputs.inputs(question, promises)
    lattice = Lattice(question.dtype)
    grids = definition.answer(lattice, question, tensors, promises)
    carrier = DTYPES[question.dtype].carrier
    answers = {name: grid.values.astype(carrier) for name, grid in grids.items()}
    certificate = inputs.certificate(question, lattice.limits, grids)
    return Golden(tensors, _observed(question, promises, answers), certificate=certificate)


def _bounded(question: GradientQuestion, promises: Sequence[str]) -> Golden:
    # Balls need python-flint, which only regenerating goldens needs.
    from conformance.arithmetic.ball import Ball, rounded

    tensors = inputs.inputs(question, promises)
    truths = definition.answer(Ball(), question, tensors, promises)
    answers = {name: rounded(balls, question.dtype) for name, balls in truths.items()}
    errors = definition.answer(definition.running(question), question, tensors, promises)
    return Golden(tensors, *_with_bounds(question, promises, answers, errors))


def at_precision(case: Case[GradientQuestion], golden: Golden, kept: Bits | None) -> Golden:
    """Widens bounds for a device that keeps fewer bits in products of matrices.

    Args:
        case: the case of the golden.
        golden: it is returned as it is where it has no bounds, or the device keeps every bit.
        kept: the bits that products of matrices were measured to keep; None without a measurement.

    Raises:
        Uncertain: if a sign or an order depends on the lost bits: then there is no bound.
    """
    if not golden.bounds or kept is None or not loses(case.question, kept):
        return golden
    wide = _bounds_at(case, golden.inputs, kept)
    bounds = {name: np.maximum(bound, wide[name]) for name, bound in golden.bounds.items()}
    return replace(golden, bounds=bounds)


def loses(question: GradientQuestion, kept: Bits) -> bool:
    """Says whether products of matrices of so many bits are coarser than the question's dtype."""
    return min(kept.factors, kept.sums) < FORMATS[question.dtype][0]


def _bounds_at(case: Case[GradientQuestion], tensors: Arrays, kept: Bits) -> Arrays:
    question, promises = case.question, case.promises or definition.PROMISES
    numbers = definition.running(question, kept)
    errors = definition.answer(numbers, question, tensors, promises)
    answers = {name: approximate.value for name, approximate in errors.items()}
    return _with_bounds(question, promises, answers, errors)[1]


def _with_bounds(
    question: GradientQuestion,
    promises: Sequence[str],
    answers: Arrays,
    errors: Mapping[str, Approximate],
) -> tuple[Arrays, Arrays]:
    """Returns what the case observes of the answers, and its bounds."""
    bounds = {
        name: definition.bound(errors[name], answers[name], question.dtype) for name in answers
    }
    if question.observe == "noise":
        # A dropped element does not count, and neither does its bound.
        bounds = {name: np.where(answers[name] == 0, 0, bounds[name]) for name in answers}
    observed, off = (_observed(question, promises, arrays) for arrays in (answers, bounds))
    booleans = {name for name, array in observed.items() if array.dtype.kind == "b"}
    # A boolean must be exact.
    return observed, {
        name: array * 0.0 if name in booleans else array for name, array in off.items()
    }


def _observed(question: GradientQuestion, promises: Sequence[str], gradients: Arrays) -> Arrays:
    """Returns gradients, or their bounds, in the form that the case observes."""
    if question.observe != "noise":
        return gradients
    return {
        f"{promise}/{name}": array
        for promise in promises
        for name, array in noise.read(
            question,
            {
                name.removeprefix(f"{promise}/"): gradient
                for name, gradient in gradients.items()
                if name.startswith(f"{promise}/")
            },
        ).items()
    }
