"""All cases of channel shuffle, their input tensors and their right answers."""

import numpy as np

from conformance.channel_shuffle import cases as value_cases
from conformance.channel_shuffle import definition, more_cases
from conformance.channel_shuffle.fills import FILLS
from conformance.core.dtypes import DTYPES
from conformance.core.golden import Golden, keeps_large
from conformance.core.questions import ShuffleCase, ShuffleQuestion


def inputs(question: ShuffleQuestion) -> dict[str, np.ndarray]:
    """Makes the named input tensors of a question.

    >>> inputs(ShuffleQuestion((1, 4, 2), 2))["input"].tolist()
    [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]]
    """
    dtype, fill = DTYPES[question.dtype], FILLS[question.fill]
    roles = {
        "none": (),
        "vjp": ("cotangent",),
        "jvp": ("tangent",),
        "double": ("cotangent", "second"),
    }
    named = {
        role: fill(question.shape, dtype, role) for role in ("input", *roles[question.derivative])
    }
    if question.layout == "expanded":
        # The stride along the batch is 0, so every sample is the first.
        named["input"] = np.broadcast_to(named["input"][:1], question.shape).copy()
    if question.observe == "convolutions":
        kernel = (question.channels, question.channels // int(question.groups), 1, 1)
        for role in ("first_kernel", "second_kernel"):
            named[role] = np.abs(FILLS["small-integers"](kernel, dtype, role))
    return named


def cases() -> tuple[ShuffleCase, ...]:
    """Returns all cases, in the order in which they are asked."""
    families = (*value_cases.FAMILIES, *more_cases.FAMILIES)
    return tuple(case for family in families for case in family())


@keeps_large
def solve(case: ShuffleCase) -> Golden:
    """Makes a case's inputs and its answer; a case that expects an error has inputs alone."""
    tensors = inputs(case.question)
    if case.refusal is not None:
        return Golden(tensors, {})
    return Golden(tensors, definition.answer(case.question, tensors))
