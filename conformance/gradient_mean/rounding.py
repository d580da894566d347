"""Tells gradients that differ by rounding alone, and gradients that were rounded to fewer bits."""

from collections.abc import Sequence

import ml_dtypes
import numpy as np

from conformance.arithmetic.running import UNIT_ROUNDOFF
from conformance.core.comparison import Arrays
from conformance.gradient_mean.parts import Gradients, Parts

# A wrong answer to an exact case may round where the right answer does not: by dividing by 3 or 5
# anywhere between the loss and the gradient. So many units of roundoff make no other value.
_ROUNDINGS = 8
_SHORT = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def alike_but_for_rounding(answer: Arrays, other: Arrays, dtype: str) -> bool:
    """Says whether all elements differ by a few roundings of the array's largest element at most.

    >>> third = {"g": np.array([1 / 3], np.float32)}
    >>> alike_but_for_rounding({"g": np.nextafter(third["g"], np.float32(1))}, third, "f32")
    True
    """
    return all(_is_near(answer[name], array, UNIT_ROUNDOFF[dtype]) for name, array in other.items())


def _is_near(answer: np.ndarray, other: np.ndarray, unit: float) -> bool:
    wide, reference = answer.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(reference)
    if not np.array_equal(wide[~finite], reference[~finite], equal_nan=True):
        return False
    slack = _ROUNDINGS * unit * np.max(np.abs(reference[finite]), initial=0.0)
    return bool((np.abs(wide[finite] - reference[finite]) <= slack).all())


def went_through_fewer_bits(
    parts: Parts, answers: Sequence[Arrays], expected: Arrays, bounds: Arrays
) -> bool:
    """Says whether ranks hold the right average, but rounded to float16 or bfloat16 on the way.

    No library promises in which order an all-reduce adds, or where a compressed sum is divided. So
    the test is that every element has no more bits than that, except for a division by W, and is
    no farther from the right element than W + 2 roundings of the ranks' shares take it.
    """
    if parts.adding == "sample_mean" or parts.question.observe in ("noise", "clipped"):
        return False
    first, *others = answers
    if any(
        not np.array_equal(o[name], first[name], equal_nan=True) for o in others for name in first
    ):
        return False
    unit = UNIT_ROUNDOFF[parts.question.dtype]
    gradients, right = _gradients(parts, first), _gradients(parts, expected)
    off = {name.partition("/")[2]: bound for name, bound in bounds.items()}
    return any(
        _is_rounded(parts, short, gradients, right, off)
        for short in _SHORT
        if float(ml_dtypes.finfo(short).eps) / 2 > unit
    )


def _gradients(parts: Parts, answer: Arrays) -> Gradients:
    """Returns the gradients of an answer by parameter, in float64."""
    wide = {name.partition("/")[2]: array.astype(np.float64) for name, array in answer.items()}
    if parts.question.observe != "step":
        return wide
    return {name: 2 * (parts.inputs[f"parameter/{name}"] - moved) for name, moved in wide.items()}


def _is_rounded(
    parts: Parts, short: np.dtype, gradients: Gradients, right: Gradients, off: Arrays
) -> bool:
    limits = ml_dtypes.finfo(short)
    owns = [parts.own(rank) for rank in range(parts.world)]
    for name, expected in right.items():
        total = np.sum([np.abs(own[name]) for own in owns], axis=0)
        shares = total / parts.world if parts.is_mean else total
        roundings = parts.world + 2
        slack = roundings * (float(limits.eps) / 2 * shares + float(limits.smallest_subnormal))
        fits = np.isfinite(gradients[name])
        near = np.abs(gradients[name] - expected)[fits] <= (slack + off.get(name, 0.0))[fits]
        if not near.all() or (total[~fits] < float(limits.max)).any():
            return False
        if not _has_few_bits(gradients[name][fits], parts, short).all():
            return False
    return True


def _has_few_bits(values: np.ndarray, parts: Parts, short: np.dtype) -> np.ndarray:
    """Marks numbers of the short format, and W-ths of such numbers, up to rounding."""
    unit = UNIT_ROUNDOFF[parts.question.dtype]
    with np.errstate(over="ignore"):
        rests = [
            np.abs(values * factor - (values * factor).astype(short).astype(np.float64))
            for factor in (1, parts.world)
        ]
    return np.minimum(rests[0], rests[1] / parts.world) <= 2 * unit * np.abs(values)
