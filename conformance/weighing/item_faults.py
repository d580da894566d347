"""What is wrong with the weights of items, whatever is promised: each fault with its name."""

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.weighing.asked import Asked, solutions
from conformance.weighing.findings import listed
from conformance.weighing.mistakes import words
from conformance.weighing.solve import Solution, norm_rounding


def fault(name: str, sentence: str) -> list[str]:
    """Return a fault of weights: its name, what is so, and what to write instead."""
    advice = words(name).advice
    return [f"{name}: {sentence}" + (f"\n    write: {advice}" if advice else "")]


def apart(asked: Asked, solved: Sequence[Solution], is_item: np.ndarray) -> list[str]:
    """Name ranks whose gradients have other weights; differences in rounding are none."""
    low, high = _shared(solved)
    known = is_item & np.isfinite(low) & np.isfinite(high)
    if not (low > high)[known].any():
        return []
    if _is_own(asked, solved, known):
        times = {
            float(share)
            for rank, solution in enumerate(solved)
            for mine in [known & (asked.ranks == rank)]
            for share in np.round(solution.values[mine] * mine.sum(), 3)
        }
        if times == {float(asked.world)}:
            return fault("psum-loss-unsynchronised", "every rank's gradient is W times its own")
        return fault("never-synchronised", "every rank's gradient is of its own items alone")
    return fault("ranks-disagree", "the ranks' gradients have different weights")


def _shared(solved: Sequence[Solution]) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals that all solutions share; those that share none are empty."""
    low = np.max([s.values - s.half for s in solved], axis=0)
    high = np.min([s.values + s.half for s in solved], axis=0)
    return low, high


def _is_own(asked: Asked, solved: Sequence[Solution], known: np.ndarray) -> bool:
    """Whether every rank's gradient is of its own items alone."""
    own = True
    for rank, solution in enumerate(solved):
        mine = asked.ranks == rank
        counts = np.abs(solution.values) > solution.half
        own &= not counts[known & ~mine].any() and bool(counts[known & mine].all())
    return own


def of_parts(
    asked: Asked, solved: list[Solution], is_item: np.ndarray
) -> tuple[list[Solution], list[str]]:
    """Solve apart for parameters that ranks disagree on, or that have weights of their own.

    Returns:
        the solutions by which the items are told, and what is wrong with the other parameters;
        what was given, and nothing, where some parameter has no weights of its own either.
    """
    slices = dict(_slices(asked))
    if len(slices) < 2:
        return solved, []
    unlike = [name for name, at in slices.items() if _differ(asked, at)]
    alike = [name for name in slices if name not in unlike]
    if not alike:
        return solved, []
    main, others = solutions(asked, np.concatenate([slices[name] for name in alike])), []
    if not _are_explained(main):
        each = {name: solutions(asked, slices[name]) for name in alike}
        if not all(map(_are_explained, each.values())):
            return solved, []
        told = {
            name: (int(np.isfinite(own[0].half)[is_item].sum()), own[0].norm)
            for name, own in each.items()
        }
        main = each[max(alike, key=told.__getitem__)]
        others = [
            name
            for name, own in each.items()
            if not _may_be_equal(own[0], main[0], is_item)
            or not _is_by(asked, slices[name], main[0])
        ]
    faults = []
    if unlike:
        own = all(_is_own_share(asked, slices[name], main[0]) for name in unlike)
        name, what = (
            ("partly-synchronised", "every rank's gradient is of its own items alone") if own
            else ("ranks-disagree", "the ranks' gradients have different weights")
        )  # fmt: skip
        faults += fault(name, f"{listed(unlike)}: {what}")
    idle = [name for name in others if not asked.gradients[:, slices[name]].any()]
    if idle:
        sentence = (
            f"{listed(idle)}: no gradient; of what is frozen on purpose, leave it out of params"
        )
        faults += fault("parameters-weighed-apart", sentence)
        others = [name for name in others if name not in idle]
    if others:
        sentence = f"{listed(others)}: items have other weights than for the other parameters"
        faults += fault("parameters-weighed-apart", sentence)
    return main, faults


def _slices(asked: Asked) -> Iterator[tuple[str, np.ndarray]]:
    first = 0
    for name, size in asked.leaves:
        yield name, np.arange(first, first + size)
        first += size


def _differ(asked: Asked, at: np.ndarray) -> bool:
    """Whether ranks have other gradients than by rounding."""
    rows = asked.gradients[:, at]
    off = np.linalg.norm(rows - rows[0], axis=1).max()
    size = np.abs(asked.columns[:, at]).max(initial=0) * len(asked.columns) * len(at) ** 0.5
    return bool(off > 2 * (len(asked.columns) + asked.world + 4) * asked.unit * size)


def _are_explained(own: Sequence[Solution]) -> bool:
    return all(solution.is_explained for solution in own)


def _may_be_equal(one: Solution, other: Solution, is_item: np.ndarray) -> bool:
    low, high = _shared([one, other])
    known = is_item & np.isfinite(low) & np.isfinite(high)
    return not (low > high)[known].any()


def _is_by(asked: Asked, at: np.ndarray, main: Solution) -> bool:
    """Whether a parameter's gradient may be what other parameters' weights make of its columns."""
    is_item = np.any(asked.columns != 0, axis=1)
    if not np.isfinite(main.half[is_item]).all():
        return True
    columns, weights = asked.columns[:, at], np.nan_to_num(main.values)
    halves = np.where(is_item, main.half, 0.0)
    rest = asked.gradients[0, at] - weights @ columns
    reach = float(np.abs(weights) @ np.linalg.norm(columns, axis=1))
    rounded = (len(columns) + asked.world + 4) * asked.unit * reach
    return bool(np.linalg.norm(rest) <= np.linalg.norm(np.abs(columns).T @ halves) + rounded)


def _is_own_share(asked: Asked, at: np.ndarray, main: Solution) -> bool:
    """Whether each rank has its own items' share of a parameter's gradient, or a multiple of it."""
    for rank, row in enumerate(asked.gradients[:, at]):
        mine = asked.ranks == rank
        share = np.nan_to_num(main.values)[mine] @ asked.columns[mine][:, at]
        squared = float(share @ share)
        rest = row - share * (float(share @ row) / squared if squared else 0.0)
        halves = np.where(np.isfinite(main.half), main.half, 0.0)[mine]
        off = np.abs(asked.columns[mine][:, at]).T @ halves
        times = float(np.linalg.norm(row)) / (squared**0.5 or 1.0)
        if np.linalg.norm(rest) > 2 * max(times, 1.0) * np.linalg.norm(off):
            return False
    return True


def clipped_early(
    asked: Asked, values: np.ndarray, half: np.ndarray, is_item: np.ndarray
) -> list[str]:
    """Name a clip of each rank's, or each micro-batch's, share of the gradient.

    The shares that are clipped have one norm, whatever their items count.
    """
    places: list[tuple[int, ...]] = list(
        zip(asked.ranks.tolist(), asked.micro_batches.tolist(), strict=True)
    )
    groupings: dict[str, list[tuple[int, ...]]] = {
        "rank": [place[:1] for place in places],
        "micro-batch": [place[1:] for place in places],
        "rank's micro-batch": places,
    }
    for whose, keys in groupings.items():
        members = [np.array([own == key for own in keys]) & is_item for key in dict.fromkeys(keys)]
        members = [mine for mine in members if mine.any()]
        if len(members) > 1 and _have_one_norm(asked, values, half, members):
            return fault("clipped-before-averaging", f"every {whose}'s share has the same norm")
    return []


def _have_one_norm(
    asked: Asked, values: np.ndarray, half: np.ndarray, members: Sequence[np.ndarray]
) -> bool:
    """Whether the largest shares have one norm, and two of them other weights."""
    elements = asked.columns.shape[1]
    norms, widths, weights = [], [], []
    for mine in members:
        if not (np.isfinite(half[mine]).all() and (values[mine] > half[mine]).all()):
            return False
        if (values - half)[mine].max() > (values + half)[mine].min():
            return False
        norms.append(float(np.linalg.norm(values[mine] @ asked.columns[mine])))
        off = float((half[mine] / values[mine]).max())
        widths.append(2 * off + norm_rounding(elements))
        weights.append(float(values[mine].mean()))
    limit = max(norms)
    clipped = [at for at, n in enumerate(norms) if n >= limit * (1 - 2 * max(widths))]
    own = [weights[at] for at in clipped]
    return len(clipped) > 1 and max(own) - min(own) > 2 * max(widths) * max(own)
