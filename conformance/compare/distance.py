"""How far what was given is from what is expected, in numbers and words."""

import numpy as np

from conformance.arithmetic.running import Approximate


def ratios(given: np.ndarray, expected: Approximate) -> np.ndarray:
    """Error ÷ bound of each element; infinite where a value is not finite."""
    with np.errstate(all="ignore"):
        error = np.abs(given.astype(np.float64) - expected.value)
        found = np.where(error == 0, 0.0, error / expected.error)
    return np.where(np.isnan(found), np.inf, found)


def off(given: np.ndarray, expected: Approximate) -> str:
    """How far it is outside its bound.

    >>> off(np.array([1.5, 2.0]), Approximate(np.array([1.0, 2.0]), np.array([0.25, 0.25])))
    '1 of 2 elements is outside the bound, most at [0]: 1.5 where 1 is right, 2 times the bound'
    """
    right = expected.value
    if given.shape != right.shape:
        return f"shape {list(given.shape)} where {list(right.shape)} is right"
    far = ratios(given, expected)
    wrong = int((far > 1).sum())
    error = np.where(far > 1, np.abs(given.astype(np.float64) - right), -1)
    error = np.where(np.isnan(error), np.inf, error)
    worst = tuple(int(i) for i in np.unravel_index(int(error.argmax()), right.shape))
    times = f"{far[worst]:.3g} times the bound" if np.isfinite(far[worst]) else "the bound is 0"
    words = (
        f"{wrong} of {right.size} elements {'are' if wrong > 1 else 'is'} outside the bound, "
        f"most at {list(worst)}: {float(given[worst]):.9g} where {right[worst]:.9g} is right, "
        f"{times}"
    )
    return words + ("; all that came is zero" if not given.any() else "")
