"""What elements lose on the way, where they ought to be moved alone: special values, and width."""

from collections.abc import Callable

import ml_dtypes
import numpy as np

from conformance.channel_shuffle.mistakes import flushed
from conformance.core.comparison import Arrays, difference
from conformance.core.dtypes import DTYPES, bits_of
from conformance.core.questions import ShuffleQuestion

# Each answer is a copy of one input.
_SOURCES = {
    "output": "input",
    "input_cotangent": "cotangent",
    "output_tangent": "tangent",
    "cotangent_cotangent": "second",
}


def each(
    arrays: Arrays, change: Callable[[np.ndarray], np.ndarray], dtype: np.dtype | None = None
) -> Arrays:
    """Changes all arrays, or the arrays of one dtype."""
    with np.errstate(all="ignore"):
        return {
            name: change(array) if dtype in (None, array.dtype) else array
            for name, array in arrays.items()
        }


def lost_values(inputs: Arrays, answer: Arrays, expected: Arrays) -> str:
    """Says what became of special values, if every wrong element is 0 or NaN in place of one.

    The text is empty where a wrong element is anything else, or where no bit pattern is gone.
    """
    wrong = [
        name
        for name, right in expected.items()
        if name not in answer or difference({name: answer[name]}, {name: right}) is not None
    ]
    lost = [
        _lost_in(inputs[_SOURCES[name]], answer[name], expected[name])
        for name in wrong
        if name in _SOURCES and name in answer
    ]
    if len(lost) < len(wrong) or not all(lost):
        return ""
    return ", ".join(dict.fromkeys(words for losses in lost for words in losses))


def _lost_in(source: np.ndarray, got: np.ndarray, right: np.ndarray) -> tuple[str, ...]:
    """Compares the multisets of bit patterns: a permutation keeps them, and loses no value."""
    if right.dtype != got.dtype or right.shape != got.shape or right.dtype.kind not in "fcV":
        return ()
    if _multiset(got) == _multiset(source):
        return ()
    right_parts, got_parts = _real_parts(right), _real_parts(got)
    wrong = bits_of(right_parts) != bits_of(got_parts)
    least = float(ml_dtypes.finfo(right_parts.dtype).smallest_normal)
    with np.errstate(all="ignore"):
        wide, after = right_parts.astype(np.float64), got_parts[wrong].astype(np.float64)
        special = ~np.isfinite(wide) | (np.abs(wide) < least)
    if right.dtype.kind == "c":
        # A product spoils both parts of a complex number.
        special = np.repeat(special.reshape(-1, 2).any(axis=1), 2)
    if not special[wrong].all() or not (np.isnan(after) | (after == 0)).all():
        return ()
    return _in_words(right_parts[wrong], got_parts[wrong])


def _in_words(right: np.ndarray, got: np.ndarray) -> tuple[str, ...]:
    """Says what became of what, of wrong elements that are 0 or NaN."""
    before, after = bits_of(right), bits_of(got)
    with np.errstate(all="ignore"):
        were_nan, are_nan = np.isnan(right), np.isnan(got)
        quieted = were_nan & are_nan & (after == before | _quiet_bit(right.dtype))
        changes = {
            "signalling NaNs became quiet": quieted,
            "NaNs became other NaNs": were_nan & are_nan & ~quieted,
            "subnormals became 0": ~were_nan & (right != 0) & np.isfinite(right) & (got == 0),
            "−0.0 became 0.0": (right == 0) & (got == 0),
            "numbers became NaN": ~were_nan & are_nan,
            "NaNs and infinities became 0": ~np.isfinite(right) & (got == 0),
        }
    return tuple(words for words, where in changes.items() if where.any())


def _quiet_bit(dtype: np.dtype) -> int:
    """Returns the highest bit of a NaN's payload, which is set where the NaN is quiet."""
    return 1 << (ml_dtypes.finfo(dtype).nmant - 1)


def _real_parts(array: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _multiset(array: np.ndarray) -> bytes:
    return np.sort(bits_of(_real_parts(array))).tobytes()


def lost_width(question: ShuffleQuestion, answer: Arrays, expected: Arrays) -> bool:
    """Says whether the answer is the right one after a cast to a narrower dtype, back or not."""
    dtype = DTYPES[question.dtype]
    narrower = [
        row.carrier
        for row in DTYPES.values()
        if row.bits < dtype.bits
        and row.kind in (dtype.kind, "float" if dtype.kind == "integer" else dtype.kind)
        and row.jax is not None
    ]
    return any(
        _stays_narrow(answer, expected, to, dtype.carrier)
        or _is_cast(answer, expected, to, dtype.carrier)
        for to in narrower
    )


def _stays_narrow(answer: Arrays, expected: Arrays, to: np.dtype, carrier: np.dtype) -> bool:
    """Says whether the answer is the right one, cast to a narrower dtype and given so."""
    if not any(array.dtype == to for array in answer.values()):
        return False
    cast = each(expected, lambda array: array.astype(to), carrier)
    return difference(each(answer, saturated, to), each(cast, saturated, to)) is None


def _is_cast(answer: Arrays, expected: Arrays, to: np.dtype, carrier: np.dtype) -> bool:
    """Compares bit for bit; or all but zeros and NaNs, where the cast lost more than those."""
    cast = each(expected, lambda array: array.astype(to), carrier)
    if difference(answer, each(cast, lambda array: array.astype(carrier), to)) is None:
        return True
    short = each(answer, lambda array: array.astype(to), carrier)
    back = each(short, lambda array: array.astype(carrier), to)
    return (
        difference(each(short, saturated, to), each(cast, saturated, to)) is None
        and difference(each(back, flushed), each(answer, flushed)) is None
        and difference(each(answer, flushed), each(expected, flushed)) is not None
    )


def saturated(x: np.ndarray) -> np.ndarray:
    """Sets infinities to the largest number beside: a cast may end there where it overflows."""
    copy = flushed(x)
    if copy.dtype.kind not in "fcV":
        return copy
    parts = copy.view(copy.real.dtype) if copy.dtype.kind == "c" else copy
    infinite, largest = np.isinf(parts), ml_dtypes.finfo(parts.dtype).max
    parts[infinite] = np.where(parts[infinite] > 0, largest, -largest)
    return copy
