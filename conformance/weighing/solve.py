"""The linear system behind a step: which weights do the columns enter the gradient with?

The gradient G is M·c + e. The columns of M are what the backward passes gave, and e is what the
loop rounded: sums of gradients over micro-batches and ranks, and a few products. What is known of
M and G are their inner products, added up in float64. Each weight gets an interval that holds

    the loop's rounding:  |e| ≤ roundings · u · Σ |c_j|·|M_j|, in whatever order it adds;
    the residual:         where |G − M·c| is more than that, something else was added to G, and is
                          taken to be as large inside the columns' span as outside;
    the inner products':  each is off by `sum_error` times the norms at most.

A weight moves by at most σ_j·|e| where σ_j² is the diagonal of (Mᵀ·M)⁻¹: the system's condition.
"""

from dataclasses import dataclass
from math import inf

import numpy as np


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights of columns.

    Attributes:
        values: the weights; NaN where the system cannot tell one.
        half: how far each may be off; infinite where it cannot be told.
        residual: the norm of what is no weighted sum, relative to the gradient's.
        rounding: how large rounding can make it, relative to the gradient's norm.
        condition: of the columns, each scaled to norm 1.
        alike: groups of columns that are equal but for a factor, of which only the sum is known.
        norm: the norm of the gradient.
        fitted: a solution that gives the gradient, with a number for every column: of those that
            cannot be told one of many.
    """

    values: np.ndarray
    half: np.ndarray
    residual: float
    rounding: float
    condition: float
    alike: tuple[tuple[int, ...], ...]
    norm: float
    fitted: np.ndarray

    @property
    def is_explained(self) -> bool:
        """Whether the gradient is a weighted sum of the columns, but for rounding."""
        return self.residual <= self.rounding


@dataclass(frozen=True)
class Rounding:
    """What the loop may have rounded, and what the inner products may be off by.

    Attributes:
        unit: the unit roundoff of the narrowest dtype that gradients are held or added in.
        roundings: how many there may be between a column and the gradient.
        sum_error: of an inner product, relative to the norms of both sides.
    """

    unit: float
    roundings: int
    sum_error: float

    @classmethod
    def of(cls, unit: float, world: int, columns: int, elements: int) -> "Rounding":
        """Count the roundings of a step.

        Each column is added once on its rank and once for each rank that it passes. At most four
        products follow: the division by W, the loss scale, a division by a count, a clip.
        """
        per_rank = -(-columns // max(world, 1))
        return cls(unit, per_rank + world + 4, sum_error(elements))


BLOCK = 1 << 16


def sum_error(elements: int) -> float:
    """Return the relative error of a sum in float64 that is added up block by block."""
    return (min(elements, BLOCK) + elements / BLOCK + 2) * 2.0**-53


def norm_rounding(elements: int) -> float:
    """Return the relative error of a norm: a sum of so many squares in float32."""
    return 2.0**-24 * (elements**0.5 + 64)


def solve(gram: np.ndarray, columns: int, target: int, rounding: Rounding) -> Solution:
    """Solve for the weights of the first columns.

    Args:
        gram: the inner products of the columns and the gradients, float64.
        columns: how many of them, the first, may enter the gradient.
        target: which of the rest is the gradient.
        rounding: what was rounded.
    """
    inner, right = gram[:columns, :columns], gram[:columns, target]
    squared = float(gram[target, target])
    norms = np.sqrt(np.diag(inner))
    groups = _alike(inner, norms, rounding.sum_error)
    signs = [np.sign(inner[group[0], list(group)]) for group in groups]
    spread = np.zeros((columns, len(groups)))
    for at, (group, sign) in enumerate(zip(groups, signs, strict=True)):
        spread[list(group), at] = sign if len(group) > 1 else 1.0
    merged, wanted = spread.T @ inner @ spread, spread.T @ right
    scale = np.sqrt(np.diag(merged))
    values, half, condition, error = _least_squares(merged, wanted, scale, squared, rounding)
    norm = float(np.sqrt(squared))
    residual = float(np.sqrt(max(squared - 2 * values @ wanted + values @ merged @ values, 0.0)))
    all_values, all_half = np.full(columns, np.nan), np.full(columns, inf)
    for at, (group, sign) in enumerate(zip(groups, signs, strict=True)):
        all_values[list(group)] = values[at] * (sign if len(group) > 1 else 1.0)
        all_half[list(group)] = half[at]
    fitted = np.nan_to_num(all_values)
    all_values[~np.isfinite(all_half)] = np.nan
    return Solution(
        all_values,
        all_half,
        residual / norm if norm else 0.0,
        error / norm if norm else 0.0,
        condition,
        tuple(group for group in groups if len(group) > 1),
        norm,
        fitted,
    )


def _alike(inner: np.ndarray, norms: np.ndarray, error: float) -> list[tuple[int, ...]]:
    """Group columns of one direction; a column of zeros is in no group."""
    groups: list[list[int]] = []
    for column in np.flatnonzero(norms).tolist():
        for group in groups:
            first = group[0]
            product = norms[first] * norms[column]
            # |a|·|b| − |a·b| is half the squared distance of the two directions.
            if product - abs(inner[first, column]) <= 4 * error * product:
                group.append(column)
                break
        else:
            groups.append([column])
    return [tuple(group) for group in groups]


def _least_squares(
    inner: np.ndarray, right: np.ndarray, scale: np.ndarray, squared: float, rounding: Rounding
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return values, halves of intervals, the condition, and how large the residual may be."""
    if not len(scale):
        return np.zeros(0), np.zeros(0), 1.0, 0.0
    inner, right = inner / np.outer(scale, scale), right / scale
    spectrum, vectors = np.linalg.eigh(inner)
    size, error = len(scale), rounding.sum_error
    told = spectrum > 2 * size * error  # the error of an eigenvalue is at most that of the matrix
    inverse = (vectors[:, told] / spectrum[told]) @ vectors[:, told].T
    scaled = inverse @ right
    leverage = np.sqrt(np.diag(inverse))
    # A column with a part in the null space has any weight at all.
    lost = (vectors[:, ~told] ** 2).sum(axis=1) > size * np.sqrt(error)
    gradient = np.sqrt(squared)
    reach = float(np.abs(scaled).sum())
    products = error * (gradient + reach) ** 2
    residual = np.sqrt(max(squared - 2 * scaled @ right + scaled @ inner @ scaled, 0.0))
    half = np.zeros(size)
    rounded = 0.0
    for _ in range(2):  # the second time with what the weights may be at most
        rounded = rounding.roundings * rounding.unit * (reach + float(half[~lost].sum()))
        off = leverage * max(rounded, residual)
        half = off + np.abs(inverse).sum(axis=1) * error * (gradient + reach)
    half[lost] = np.inf
    largest, least = float(spectrum.max()), float(spectrum.min())
    condition = np.sqrt(largest / least) if told.all() else inf
    return scaled / scale, half / scale, float(condition), float(rounded + np.sqrt(products))
