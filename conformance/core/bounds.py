"""Comparison inside a derived bound."""

from collections.abc import Mapping

import numpy as np

from conformance.core.comparison import Difference, form_difference, shown, wrong_elements


def departure(
    answer: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    bounds: Mapping[str, np.ndarray],
) -> tuple[Difference | None, float]:
    """Returns what is outside its bound, or None, and the largest error ÷ bound.

    >>> departure({"g": np.array([1.5])}, {"g": np.array([1.0])}, {"g": np.array([2.0])})
    (None, 0.25)
    """
    furthest = 0.0
    first = None
    for name, right in expected.items():
        if name not in answer:
            return Difference(name, f"{name}: missing"), np.inf
        flaw = form_difference(name, answer[name], right)
        if flaw is not None:
            return flaw, np.inf
        ratios = error_over_bound(answer[name], right, bounds[name])
        furthest = max(furthest, float(np.max(ratios, initial=0.0)))
        if first is None and (ratios > 1).any():
            first = _outside(name, answer[name], right, ratios)
    extra = next((name for name in answer if name not in expected), None)
    if extra is not None:
        return Difference(extra, f"{extra}: not asked for"), furthest
    return first, furthest


def error_over_bound(answer: np.ndarray, right: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """Returns error ÷ bound of each element: 0 where both are 0, infinite for NaN or infinity."""
    with np.errstate(all="ignore"):
        error = np.abs(answer.astype(np.float64) - right.astype(np.float64))
        ratios = np.where(error == 0, 0.0, error / bound)
    return np.where(np.isnan(ratios), np.inf, ratios)


def _outside(name: str, answer: np.ndarray, right: np.ndarray, ratios: np.ndarray) -> Difference:
    wrong = int((ratios > 1).sum())
    worst = tuple(int(i) for i in np.unravel_index(int(ratios.argmax()), right.shape))
    place = f"worst at {list(worst)}: " if worst else ""
    expected, got = shown(right, worst), shown(answer, worst)
    words = (
        f"{name}: {wrong_elements(wrong, right.size)} outside the bound, {place}"
        f"expected {expected}, given {got}, {ratios[worst]:.3g} times the bound"
    )
    return Difference(name, words, wrong, worst, expected, got)
