"""What a probe's items counted for, from the logs of all ranks."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf

import numpy as np

from conformance.weighing.formula import Cell, Formula, Reading, read, simplest_between
from conformance.weighing.item_faults import fault
from conformance.weighing.probe_layout import Layout
from conformance.weighing.probe_log import Fed, RankStep
from conformance.weighing.weights import Place, Weights

# Roundings on the way of one weight: two each of the loss's exponential, logarithm and count, then
# K, W, a loss scale and its inverse, two products of counts, a clip's quotient and product, and lr.
_ROUNDINGS = 15
_NARROW = {"f16": 2.0**-11, "bf16": 2.0**-8}  # bits of a significand, as one over their last
_SIMPLE_LIMIT = 100  # the largest denominator of a norm that somebody may have clipped to
_CLIP_EPSILON = 1e-6  # what clip_grad_norm_ adds to the norm that it divides by
# Of each rank the items' weights in its step, and how far these may be off.
Vectors = Sequence[tuple[int, np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Trace:
    """What a training run did with a probe.

    Attributes:
        weights: of all steps.
        full: of the steps of whole windows; None where there is none.
        last: of the windows with fewer micro-batches than the longest; None where there is none.
        uneven: of the steps that not all ranks took; None where there is none.
        repeated: samples that were fed more often than most, with how often.
        dropped: samples that were never fed.
        unstepped: items that were backpropagated and came into no step.
        micro_batches: K of the longest window.
        has_lr: whether an optimizer was seen, and so its learning rate.
    """

    weights: Weights
    full: Weights | None
    last: Weights | None
    uneven: Weights | None
    repeated: Mapping[int, int]
    dropped: tuple[int, ...]
    unstepped: tuple[int, ...]
    micro_batches: int
    has_lr: bool = True

    def reading(self, part: Weights) -> Reading:
        """Return the formulas of the full steps, or of the last ones, beside the others."""
        return read(self.cells_of(part), self.weights.world, among=self.weights.cells)

    def cells_of(self, part: Weights) -> list[Cell]:
        """Return the cells of the full steps, or of the last ones."""
        steps = set(part.steps.reshape(-1).tolist())
        return [cell for cell in self.weights.cells if cell.step in steps]


def trace(
    logs: Sequence[tuple[Sequence[RankStep], Sequence[Fed]]],
    layout: Layout,
    gain: float,
    lr: float,
    ends: Sequence[np.ndarray | None] = (),
) -> Trace:
    """Return what was done.

    Args:
        logs: each rank's steps, and the batches that none came after.
        layout: of the data set.
        gain: the gradient of an item's coordinate where it counts 1.
        lr: where no optimizer was seen.
        ends: each rank's parameters in the end.

    Raises:
        ValueError: if the model was never fed, or no step was made.
    """
    if not any(steps or rest for steps, rest in logs):
        raise ValueError(
            "not-exercised: no copy of the probe's model was trained in this process, and its "
            "parameters alone do not say which items shared a micro-batch"
        )
    if not any(steps for steps, _ in logs):
        raise ValueError("not-exercised: the model was fed, and no step moved its parameters")
    columns = _Columns(logs, layout, gain, lr, ends)
    weights = columns.weights()
    longest = max(len(step.feds) for steps, _ in logs for step in steps)
    short = {
        s
        for s in range(columns.count)
        if any(len(step.feds) < longest for _, step in columns.of_step(s))
    }
    members = weights.steps.reshape(-1)
    uneven = {s for s in range(columns.count) if len(columns.of_step(s)) < columns.world}
    is_uneven = np.isin(members, sorted(uneven))
    is_short = np.isin(members, sorted(short)) & ~is_uneven
    counter = Counter(columns.samples())
    usual = Counter(counter.values()).most_common(1)[0][0] if counter else 1
    return Trace(
        weights,
        _only(weights, ~is_short & ~is_uneven),
        _only(weights, is_short),
        _only(weights, is_uneven),
        {s: n for s, n in sorted(counter.items()) if n > usual},
        tuple(s for s in range(len(layout.lengths)) if s not in counter),
        tuple(sorted({item for _, rest in logs for fed in rest for item in fed.items})),
        longest,
        all(step.lr is not None for steps, _ in logs for step in steps),
    )


def _only(weights: Weights, which: np.ndarray) -> Weights | None:
    """Return the weights of some entries, in one row."""
    if not (which & weights.is_item.reshape(-1)).any():
        return None
    parts = {
        name: getattr(weights, name).reshape(-1)[which]
        for name in ("values", "low", "high", "ranks", "micro_batches", "steps", "is_item")
    }
    return Weights(
        **parts, world=weights.world, counts=weights.counts, faults=weights.faults,
        condition=weights.condition,
    )  # fmt: skip


class _Columns:
    """The logs of all ranks, step by step."""

    def __init__(
        self,
        logs: Sequence[tuple[Sequence[RankStep], Sequence[Fed]]],
        layout: Layout,
        gain: float,
        lr: float,
        ends: Sequence[np.ndarray | None],
    ) -> None:
        self.logs, self.layout, self.gain, self.lr, self.ends = logs, layout, gain, lr, ends
        self.world = len(logs)
        self.count = max(len(steps) for steps, _ in logs)
        self.unit = max(fed.unit for s in range(self.count) for *_, fed in self.feds(s))
        self.faults: list[str] = []

    def of_step(self, s: int) -> list[tuple[int, RankStep]]:
        """Return the ranks that made a step, with what they saw of it."""
        return [(r, steps[s]) for r, (steps, _) in enumerate(self.logs) if s < len(steps)]

    def feds(self, s: int) -> Iterator[tuple[int, int, Fed]]:
        """Yield the batches of a step with rank and micro-batch."""
        for r, step in self.of_step(s):
            for k, fed in enumerate(step.feds):
                yield r, k, fed

    def samples(self) -> Iterator[int]:
        """Yield the sample of every row that was fed."""
        owners = self.layout.owners()
        every = [fed for s in range(self.count) for *_, fed in self.feds(s)]
        for fed in [*every, *(fed for _, rest in self.logs for fed in rest)]:
            for row in fed.rows:
                yield from {owners[item - 1] for item in row if item > 0}

    def weights(self) -> Weights:
        """Return what every item counted for, widened to a narrower dtype where one explains it."""
        weights = self._weights(self.unit)
        simplest = weights.reading.simplest
        if simplest is not None and simplest.factor == 1:
            return weights
        shifted = replace(weights, counts=self._counts(after_shift=True))
        if shifted.reading.simplest and shifted.reading.simplest.factor == 1:
            return shifted
        for bits in _NARROW.values():
            if bits > self.unit and self._is_narrow(bits):
                wider = self._weights(bits)
                formula = wider.reading.simplest
                if formula is not None and formula.factor == 1:
                    return wider
        is_simple = simplest is not None and simplest.factor.denominator <= _SIMPLE_LIMIT
        clip = None if is_simple or weights.faults else self._clip()
        if clip is None or _with_shares(weights) is None:
            return weights
        return self._weights(self.unit, clip)

    def _weights(self, unit: float, clip: Fraction | None = None) -> Weights:
        self.faults = []
        entries: dict[int, list[tuple[int, int, int, float, float, float]]] = defaultdict(list)
        for s in range(self.count):
            self._enter(s, unit, entries)
        if not self.faults and self._ends_apart():
            self.faults += fault("ranks-disagree", "the ranks' parameters differ in the end")
        if clip is not None:
            self.faults += fault(
                "clipped-unasked", f"the gradient of every step has a norm of just {clip}"
            )
        nothing = (0, 0, 0, 0.0, 0.0, 0.0)
        is_item, rows = [], []
        for item in range(self.layout.items):
            fed = entries.get(item)
            is_item += [True] * len(fed) if fed else [False]
            rows += fed or [nothing]
        table = np.array(rows, float)
        whole = table[:, :3].astype(int)
        return Weights(
            table[:, 3], table[:, 4], table[:, 5], whole[:, 1], whole[:, 2], whole[:, 0],
            np.array(is_item), self.world, self._counts(), faults=tuple(dict.fromkeys(self.faults)),
        )  # fmt: skip

    def _vector(self, step: RankStep, unit: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the items' weights in one rank's step, and how far they may be off."""
        roundings = (_ROUNDINGS + self.world + len(step.feds)) * unit
        if step.moved is not None and self._rate(step):
            by_moving, size = self._by_moving(step, step.moved, 2)
            if step.gradient is None:
                return by_moving, roundings * np.abs(by_moving) + size
            seen = step.gradient / self.gain
            if step.is_plain and (
                np.abs(by_moving - seen) > roundings * np.abs(seen) + size
            ).any():  # fmt: skip
                self.faults += fault(
                    "moved-otherwise", "parameters moved by something else than lr times gradient"
                )
        if step.gradient is not None:
            seen = step.gradient / self.gain
            return seen, roundings * np.abs(seen)
        return np.full(self.layout.items, np.nan), np.full(self.layout.items, inf)

    def _rate(self, step: RankStep) -> float:
        """Return how far a parameter moves in a step for an item that counts 1."""
        return self.gain * (self.lr if step.lr is None else step.lr)

    def _by_moving(
        self, step: RankStep, moved: np.ndarray, sums: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the items' weights by how parameters moved, and what so many sums round off."""
        reached = moved if step.reached is None else step.reached
        return -moved / self._rate(step), sums * self.unit * np.abs(reached) / self._rate(step)

    def _by_averages(
        self, made: Sequence[tuple[int, RankStep]], vectors: Vectors, unit: float
    ) -> Vectors | None:
        """Return the items' weights where ranks average parameters, in place of gradients.

        So it is where gradients differ, and what parameters do until the next window does not.
        """
        if _agree(vectors) or not all(step.is_plain and step.lr for _, step in made):
            return None
        averaged = []
        for r, step in made:
            moved = [part for part in (step.moved, step.strayed) if part is not None]
            value, size = self._by_moving(step, np.sum(moved, axis=0), 3 + self.world)
            roundings = (_ROUNDINGS + self.world + len(step.feds)) * unit
            averaged.append((r, value, roundings * np.abs(value) + size))
        return averaged if _agree(averaged) else None

    def _enter(
        self,
        s: int,
        unit: float,
        entries: dict[int, list[tuple[int, int, int, float, float, float]]],
    ) -> None:
        """Enter a step's items with the intervals of their weights."""
        made = self.of_step(s)
        vectors: Vectors = [(r, *self._vector(step, unit)) for r, step in made]
        # A rank that has no more data is handed the others' parameters in the end.
        if any(
            step.strayed is not None and not (s + 1 == len(self.logs[r][0]) < self.count)
            for r, step in made
        ):
            averaged = self._by_averages(made, vectors, unit)
            if averaged is None:
                self.faults += fault(
                    "moved-between-steps", "parameters moved between a step and the next window"
                )
            vectors = averaged or vectors
        _, value, half = vectors[0]
        self._compare(s, vectors)
        low, high = value - half, value + half
        low, high = np.nextafter(low, -inf), np.nextafter(high, inf)
        fed: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for r, k, batch in self.feds(s):
            for item in batch.items:
                fed[item].append((r, k))
        self._look_for_others(s, fed, value, half)
        alone: dict[tuple[int, int], tuple[float, float]] = defaultdict(lambda: (-inf, inf))
        for item, places in fed.items():
            if len(places) == 1:
                before = alone[places[0]]
                alone[places[0]] = (max(before[0], low[item]), min(before[1], high[item]))
        for item, places in fed.items():
            if len(places) == 1:
                (r, k) = places[0]
                entries[item].append((s, r, k, value[item], low[item], high[item]))
            else:
                for (r, k), ends in _shared(places, alone, low[item], high[item]):
                    middle = (ends[0] + ends[1]) / 2 if ends[1] < inf else value[item] / len(places)
                    entries[item].append((s, r, k, middle, *ends))

    def _ends_apart(self) -> bool:
        """Whether ranks ended with parameters that differ by more than rounding."""
        ends = [end for end in self.ends if end is not None]
        if len(ends) < 2:
            return False
        low, high = np.min(ends, axis=0), np.max(ends, axis=0)
        size = np.maximum(np.abs(low), np.abs(high))
        return bool((high - low > 2 * self.count * self.unit * size).any())

    def _compare(self, s: int, vectors: Vectors) -> None:
        """Say whether the ranks' gradients have other weights, and how."""
        if _agree(vectors):
            return
        own_items = {r: set[int]() for r, *_ in vectors}
        for r, _, fed in self.feds(s):
            own_items[r] |= set(fed.items)
        own = all(
            set(np.flatnonzero(np.abs(value) > half).tolist()) <= own_items[r]
            for r, value, half in vectors
        )
        if own:
            self.faults += fault(
                "never-synchronised", "every rank's gradient is of its own items alone"
            )
        else:
            self.faults += fault(
                "ranks-disagree", "the ranks' gradients have different weights"
            )  # fmt: skip

    def _look_for_others(
        self, s: int, fed: Mapping[int, object], value: np.ndarray, half: np.ndarray
    ) -> None:
        """Say which items count in a step whose batches do not have them."""
        counting = set(np.flatnonzero(np.abs(value) > half).tolist()) - set(fed)
        if not counting:
            return
        before = {item for t in range(s) for *_, batch in self.feds(t) for item in batch.items}
        if counting <= before:
            self.faults += fault(
                "stale-gradient",
                f"{len(counting)} items of an earlier step count again in step {s + 1}, as with "
                "gradients that were not cleared, or an optimizer's momentum",
            )
        else:
            self.faults += fault(
                "fed-unseen",
                f"{len(counting - before)} items count that no batch had, as far as seen",
            )

    def _counts(self, *, after_shift: bool = False) -> dict[str, dict[Place, int]]:
        """Return how many samples, places and labels every micro-batch has, where they differ.

        Args:
            after_shift: whether places are those of predictions, one less in each row.
        """
        if not self.layout.shifts:
            return {}
        counts: dict[str, dict[Place, int]] = {kind: {} for kind in "spm"}
        for s in range(self.count):
            for r, k, fed in self.feds(s):
                rows = [row for row in fed.rows if any(item > 0 for item in row)]
                counts["s"][s, r, k] = len(rows)
                counts["p"][s, r, k] = sum(len(row) - after_shift for row in fed.rows)
                counts["m"][s, r, k] = len(fed.items) + len(rows)
        if counts["p"] == counts["m"]:
            del counts["p"]  # nothing is padded: places are labels
        return counts

    def _is_narrow(self, bits: float) -> bool:
        """Whether every gradient has no more bits than a narrower dtype."""
        values = np.concatenate(
            [np.asarray(step.gradient) for s in range(self.count) for _, step in self.of_step(s)
             if step.gradient is not None] or [np.array([np.pi])]
        )  # fmt: skip
        fractions, _ = np.frexp(values)
        scaled = fractions / bits
        return bool((scaled == np.round(scaled)).all())

    def _clip(self) -> Fraction | None:
        """Return the norm of all steps' gradients, where it is one that people write."""
        limits = set()
        for s in range(self.count):
            step = self.of_step(s)[0][1]
            value, _ = self._vector(step, self.unit)
            norm = self.gain * float(np.linalg.norm(value))
            if not 0 < norm < inf:
                return None
            off = _CLIP_EPSILON / norm + (_ROUNDINGS + self.world) * self.unit
            limits.add(simplest_between(Fraction(norm * (1 - off)), Fraction(norm * (1 + off))))
        (limit, *others) = limits
        return limit if not others and limit.denominator <= _SIMPLE_LIMIT else None


def _agree(vectors: Vectors) -> bool:
    """Say whether the ranks' intervals have something in common for every item."""
    low = np.max([value - half for _, value, half in vectors], axis=0)
    high = np.min([value + half for _, value, half in vectors], axis=0)
    return not (low > high).any()


def _with_shares(weights: Weights) -> Formula | None:
    """Return the formula of the items' shares of their step, which a clip leaves as they were."""
    cells = weights.cells
    least: dict[int, float] = defaultdict(float)
    most: dict[int, float] = defaultdict(float)
    for cell in cells:
        least[cell.step] += cell.count * cell.low
        most[cell.step] += cell.count * cell.high
    if not all(total > 0 for total in least.values()) or inf in most.values():
        return None
    shares = [
        replace(cell, low=cell.low / most[cell.step], high=cell.high / least[cell.step])
        for cell in cells
    ]
    simplest = read(shares, weights.world).simplest
    return simplest if simplest is not None and simplest.factor == 1 else None


def _shared(
    places: Sequence[tuple[int, int]],
    alone: Mapping[tuple[int, int], tuple[float, float]],
    low: float,
    high: float,
) -> Iterator[tuple[tuple[int, int], tuple[float, float]]]:
    """Yield what each feeding of one item counted; only their sum is seen.

    Where other items of the micro-batches say what one counts there, and the sum is theirs, each
    feeding counts as these do. Otherwise nobody knows how the sum is shared.
    """
    ends = [alone.get(place, (-inf, inf)) for place in places]
    total = sum(e[0] for e in ends), sum(e[1] for e in ends)
    is_sum = total[0] <= high and low <= total[1] and total[1] - total[0] < inf
    for place, own in zip(places, ends, strict=True):
        yield place, own if is_sum else (-inf, inf)
