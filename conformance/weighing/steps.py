"""One step from its inner products: parts of the parameters that share their weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conformance.weighing.records import Part, Solved, finite
from conformance.weighing.solve import Rounding, Solution, solve

UNITS = {"f64": 2.0**-53, "f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}


@dataclass(frozen=True, eq=False)
class Products:
    """The inner products of one step.

    Attributes:
        grams: (parameters, Q, Q) in float64; the columns come first.
        apart: (parameters, ranks), whether a rank's gradient differs from rank 0's.
        names: of the parameters.
        sizes: their elements.
        columns: how many vectors may enter the gradient.
        targets: where each rank's gradient is among the Q.
        passes: the backward passes of a rank, at most.
        unit: the unit roundoff of the dtype of gradients.
        narrow: a dtype that all gradients fit into although theirs is wider, or empty.
    """

    grams: np.ndarray
    apart: np.ndarray
    names: Sequence[str]
    sizes: Sequence[int]
    columns: int
    targets: Sequence[int]
    passes: int
    unit: float
    narrow: str = ""


def parts(products: Products) -> list[Part]:
    """Split the parameters into as few parts as explain the gradients; the largest comes first.

    Parameters whose gradients differ between ranks stand apart from the others and have a solution
    for each rank. Within these two, parameters are joined as long as one solution explains them.
    """
    here = np.abs(products.grams).sum(axis=(1, 2)) > 0
    groups = [
        np.flatnonzero(here & products.apart.any(axis=1)),
        np.flatnonzero(here & ~products.apart.any(axis=1)),
    ]
    found = []
    for group, targets in zip(groups, (products.targets, products.targets[:1]), strict=True):
        for members in _clusters(products, group.tolist(), targets):
            solutions = [_solved(products, members, target) for target in targets]
            squares = products.grams[members].sum(axis=0).diagonal()[: products.columns]
            found.append(
                Part(
                    [products.names[m] for m in members],
                    sum(products.sizes[m] for m in members),
                    solutions,
                    np.sqrt(squares).tolist(),
                )
            )
    return sorted(found, key=_elements, reverse=True)


def _elements(part: Part) -> int:
    return part.elements


def _clusters(products: Products, members: list[int], targets: Sequence[int]) -> list[list[int]]:
    """Join parameters, the largest first, to the first cluster that explains them too."""
    if not members:
        return []
    if _explains(products, members, targets):
        return [members]
    clusters: list[list[int]] = []
    for member in sorted(members, key=lambda m: -products.sizes[m]):
        for cluster in clusters:
            if _explains(products, [*cluster, member], targets):
                cluster.append(member)
                break
        else:
            clusters.append([member])
    return [sorted(cluster) for cluster in clusters]


def _explains(products: Products, members: list[int], targets: Sequence[int]) -> bool:
    """Whether one solution explains the gradient of each of these parameters."""
    for target in targets:
        solution, rounding = _solution(products, members, target)
        values = solution.fitted
        halves = np.where(np.isfinite(solution.half), solution.half, 0.0)
        if not solution.is_explained:  # as wide as rounding alone makes them
            halves *= solution.rounding / solution.residual
        for member in members:
            gram = products.grams[member]
            inner = gram[: products.columns, : products.columns]
            right, squared = gram[: products.columns, target], float(gram[target, target])
            norms = np.sqrt(np.diag(inner))
            reach = float(np.abs(values) @ norms)
            residual = squared - 2 * values @ right + values @ inner @ values
            allowed = rounding.roundings * rounding.unit * (reach + halves @ norms)
            allowed += halves @ norms + np.sqrt(rounding.sum_error) * (reach + np.sqrt(squared))
            if residual > allowed**2:
                return False
    return True


def _solution(
    products: Products, members: Sequence[int], target: int, unit: float | None = None
) -> tuple[Solution, Rounding]:
    elements = sum(products.sizes[m] for m in members)
    world = len(products.targets)
    rounding = Rounding.of(
        products.unit if unit is None else unit, world, products.passes * world, elements
    )
    gram = products.grams[list(members)].sum(axis=0)
    return solve(gram, products.columns, target, rounding), rounding


def _solved(products: Products, members: Sequence[int], target: int) -> Solved:
    """Solve for a part; where f32 does not explain it, see whether a narrower dtype does."""
    solution, _ = _solution(products, members, target)
    narrow = ""
    if not solution.is_explained:
        for name in ("f16", "bf16"):
            wider, rounding = _solution(products, members, target, UNITS[name])
            # That m roundings all go one way is a bound; where only the size of what is left over
            # speaks for a dtype, it must be that of m roundings that go either way: √m.
            most = wider.rounding / (1 if products.narrow else np.sqrt(rounding.roundings))
            if wider.residual <= most and UNITS[name] > products.unit:
                solution, narrow = wider, products.narrow or f"{name}?"
                break
    return Solved(
        finite(solution.values.tolist()),
        finite(solution.half.tolist()),
        solution.residual,
        solution.rounding,
        finite([solution.condition])[0],
        solution.norm,
        solution.alike,
        narrow,
    )
