"""Weights: what each item counted for, each inside an interval, and the formula behind them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import inf
from typing import Any, Literal

import numpy as np

from conformance.weighing.formula import Cell, Reading, read, simplest_between
from conformance.weighing.mistakes import words
from conformance.weighing.naming import Origin, constant_factor, mistakes
from conformance.weighing.promises import PROMISES, MicroBatches, formulas, kept

FORMAT, VERSION = "conformance-weights", 1
_SHOWN = 4  # cells that a message names
Place = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Weights:
    """What each item of one step, or of several, counted for.

    The arrays have one shape, that of the items. An item that is masked has a weight of 0 and is
    left out of every count.

    Attributes:
        values: the weights, in float64.
        low: the lower ends of their intervals.
        high: the upper ends.
        ranks: the rank that each item belongs to.
        micro_batches: the micro-batch, counted from 0 in each step.
        steps: the step.
        is_item: whether it can count; False where it is masked or padding.
        world: W, the number of ranks.
        counts: further counts of (step, rank, micro-batch): "s" of samples, "p" of places with the
            padding, "m" of labels before a shift.
        residual: the part of the gradient that is no weighted sum, relative to its norm.
        condition: the condition number of the linear system; 1 where weights are read directly.
        faults: what is wrong whatever is promised: ranks that disagree, no weighted sum.
        origin: what the loss alone gave to the items, where it is known.
        is_clipped: whether a factor of all items is that of a clip of the whole gradient.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    ranks: np.ndarray
    micro_batches: np.ndarray
    steps: np.ndarray
    is_item: np.ndarray
    world: int
    counts: Mapping[str, Mapping[Place, int]] = field(default_factory=dict)
    residual: float = 0.0
    condition: float = 1.0
    faults: tuple[str, ...] = ()
    origin: Origin | None = None
    is_clipped: bool = False

    @classmethod
    def of(
        cls,
        values: Any,
        *,
        world: int,
        half: Any = 0.0,
        ranks: Any = 0,
        micro_batches: Any = 0,
        steps: Any = 0,
        is_item: Any = True,
        **more: Any,
    ) -> "Weights":
        """Return weights whose intervals reach `half` to both sides, and an ulp at least.

        What is the same for all items may be given once.
        """
        array = np.asarray(values, np.float64)
        width = np.broadcast_to(np.asarray(half, np.float64), array.shape)
        low, high = (np.nextafter(array + sign * width, sign * inf) for sign in (-1, 1))

        def whole(part: Any, kind: type) -> np.ndarray:
            return np.broadcast_to(np.asarray(part, kind), array.shape)

        return cls(
            array, low, high, whole(ranks, int), whole(micro_batches, int), whole(steps, int),
            whole(is_item, bool), world=world, **more,
        )  # fmt: skip

    @property
    def fractions(self) -> np.ndarray:
        """Return each weight as the one simple fraction in its interval; None where none is.

        A fraction is simple where an interval so narrow would hardly hold one by chance: its
        squared denominator times the interval's width is below 1/64.
        """
        found = [
            _simple(float(low), float(high))
            for low, high in zip(self.low.reshape(-1), self.high.reshape(-1), strict=True)
        ]
        table = np.empty(len(found), object)
        table[:] = found
        return table.reshape(self.values.shape)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Return the micro-batches of the ranks, each with the interval that all its items share.

        Where the items of one do not count alike, its interval is empty: no formula fits.
        """
        groups: dict[Place, list[int]] = defaultdict(list)
        flat = [part.reshape(-1) for part in (self.steps, self.ranks, self.micro_batches)]
        items = self.is_item.reshape(-1)
        for at, place in enumerate(zip(*(part.tolist() for part in flat), strict=True)):
            group = groups[place]
            if items[at]:
                group.append(at)
        low, high = self.low.reshape(-1), self.high.reshape(-1)
        return tuple(
            Cell(
                rank=place[1],
                micro_batch=place[2],
                count=len(ats),
                low=float(low[ats].max(initial=-inf)),
                high=float(high[ats].min(initial=inf)),
                step=place[0],
                samples=self._counted("s", place),
                places=self._counted("p", place),
                labels=self._counted("m", place),
            )
            for place, ats in sorted(groups.items())
        )

    def _counted(self, kind: str, place: Place) -> int | None:
        return self.counts.get(kind, {}).get(place)

    @cached_property
    def reading(self) -> Reading:
        """Return the formulas that lie inside every interval."""
        return read(self.cells, self.world)

    @property
    def formula(self) -> str:
        """Return the formula: "1/N", "1/(W·n_r)", …; where two fit, both."""
        return str(self.reading)

    @property
    def promises(self) -> tuple[str, ...]:
        """Return the promises that these weights keep; but for a clip, where there is one."""
        if self.faults:
            return ()
        if self.is_clipped:
            return tuple(promise for promise in PROMISES if self.mistakes(promise) is None)
        return kept(self.cells, self.world)

    def mistakes(
        self, promise: str, micro_batches: MicroBatches | None = None
    ) -> tuple[str, ...] | None:
        """Name what was done instead of what is promised; None where the promise is kept."""
        names = mistakes(self.cells, self.world, promise, micro_batches, self.origin)
        if names == () and self.is_clipped:
            factors = (
                constant_factor(self.cells, self.world, formula.powers)
                for formula in formulas(promise, micro_batches)
            )
            return None if any(factors) else names
        return names

    def verify(self, promise: str, micro_batches: MicroBatches | None = None) -> None:
        """Raise AssertionError, with what was done instead, unless the promise is kept.

        Args:
            promise: rank_mean, sample_mean, step_mean or rank_sum; or a formula over n, N_rank, N,
                W and K, as in "1/(W*K*n)".
            micro_batches: "sum" or "mean", where only one of them is right.

        Raises:
            AssertionError: if the weights are others.
            ValueError: if there is no such promise.
        """
        __tracebackhide__ = True
        if self.faults:
            raise AssertionError("\n".join(self.faults))
        if not any(cell.count for cell in self.cells):
            raise AssertionError("not-exercised: there is no item that could count")
        unknown = int((self.is_item & ~np.isfinite(self.high - self.low)).sum())
        if unknown:
            raise AssertionError(
                f"not-exercised: the weights of {unknown} of {int(self.is_item.sum())} items "
                "cannot be told; give a model with more parameters, or items that differ"
            )
        names = self.mistakes(promise, micro_batches)
        if names is not None:
            raise AssertionError("\n".join(self._why(names, promise, micro_batches)))
        if self.reading.others:
            raise AssertionError(
                f"not-exercised: weights are {self.formula}, and too uncertain to tell one from "
                "the other; give a model that computes in float32"
            )

    def _why(
        self, names: Sequence[str], promise: str, micro_batches: MicroBatches | None
    ) -> list[str]:
        wanted = formulas(promise, micro_batches)
        title = " or ".join(names) or "no known mistake"
        lines = [f"{title}: weights are {self.formula} where {promise} is {wanted[0]}"]
        lines += [f"    {sentence(cell)}" for cell in self.cells[:_SHOWN] if cell.count]
        if len(self.cells) > _SHOWN:
            lines.append(f"    and {len(self.cells) - _SHOWN} more")
        lines += [f"    {words(name).done}" for name in names if words(name).done]
        lines += [f"    write: {words(name).advice}" for name in names if words(name).advice]
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return them as plain data, which `json` can write."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "world": self.world,
            "shape": list(self.values.shape),
            **{name: _numbers(getattr(self, name)) for name in ("values", "low", "high")},
            **{
                name: getattr(self, name).reshape(-1).tolist()
                for name in ("ranks", "micro_batches", "steps", "is_item")
            },
            "counts": {
                kind: [[*place, count] for place, count in sorted(counts.items())]
                for kind, counts in self.counts.items()
            },
            "formula": self.formula,
            "promises": list(self.promises),
            "residual": self.residual,
            "condition": None if self.condition == inf else self.condition,
            "faults": list(self.faults),
            "is_clipped": self.is_clipped,
        }

    def to_json(self) -> str:
        """Return them as the text of a JSON object."""
        return json.dumps(self.as_json(), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Weights":
        """Return the weights that `as_json` made plain.

        Raises:
            ValueError: if these are not weights, or of a later version.
        """
        if data.get("format") != FORMAT or data.get("version") != VERSION:
            raise ValueError(f"not {FORMAT} of version {VERSION}")
        shape = data["shape"]

        def array(name: str, kind: type, missing: float = 0) -> np.ndarray:
            return np.array([missing if v is None else v for v in data[name]], kind).reshape(shape)

        return cls(
            values=array("values", float, np.nan),
            low=array("low", float, -inf),
            high=array("high", float, inf),
            ranks=array("ranks", int),
            micro_batches=array("micro_batches", int),
            steps=array("steps", int),
            is_item=array("is_item", bool),
            world=data["world"],
            counts={
                kind: {(s, r, k): count for s, r, k, count in rows}
                for kind, rows in data["counts"].items()
            },
            residual=data["residual"],
            condition=inf if data["condition"] is None else data["condition"],
            faults=tuple(data["faults"]),
            is_clipped=data.get("is_clipped", False),
        )


def sentence(cell: Cell, unit: Literal["item", "token", "sample"] = "item") -> str:
    """Say what the items of a cell count for."""
    many = f"{cell.count} {unit}{'s' * (cell.count != 1)}"
    if cell.low > cell.high:
        return f"{_place(cell)}: {many}, which do not count alike"
    if cell.low == -inf or cell.high == inf:
        return f"{_place(cell)}: {many}, whose weight cannot be told"
    if cell.low <= 0 <= cell.high:
        return f"{_place(cell)}: {many}, each counts nothing"
    weight = (cell.low + cell.high) / 2
    return f"{_place(cell)}: {many}, each counts {weight:.4g} = 1/{1 / weight:.6g}"


def _simple(low: float, high: float) -> Fraction | None:
    if not -inf < low <= high < inf:
        return None
    simplest = simplest_between(Fraction(low), Fraction(high))
    is_simple = simplest.denominator**2 * (Fraction(high) - Fraction(low)) < Fraction(1, 64)
    return simplest if is_simple else None


def _place(cell: Cell) -> str:
    return f"rank {cell.rank}, micro-batch {cell.micro_batch}"


def _numbers(array: np.ndarray) -> list[float | None]:
    """Return floats, None where one is not finite: JSON has no infinity."""
    return [v if np.isfinite(v) else None for v in array.reshape(-1).tolist()]
