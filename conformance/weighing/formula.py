"""The formula behind weights: a product of powers of the counts that lies inside every interval.

The counts around an item of micro-batch k of rank r:

    n_rk  items of the micro-batch        n_r   items of the rank, over its micro-batches
    n_k   items of the micro-batches k    N     items of the whole step
          of all ranks                    W, K  ranks, micro-batches of a rank

and, where they are known: s for samples (sequences), p for places (padding included), m for
labels (before a model shifts them), each with the same indices. A search is exact: a formula's
value is a fraction, and it fits if no interval leaves it out.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from itertools import permutations, product
from math import inf, nextafter

import numpy as np

_KINDS = {"n": "items", "s": "samples", "p": "places", "m": "labels"}
_TOTALS = {"n": "N", "s": "S", "p": "P", "m": "M"}
_MOST_POWERS = 3  # of W and K together: W² and W·K are met, W²·K² is not
_MOST_OTHERS = 4  # formulas that the intervals cannot exclude, and that are told
_SIMPLEST = 1000  # the largest denominator of a factor that is told as a fraction
Counts = Mapping[str, Fraction]


@dataclass(frozen=True)
class Cell:
    """The items of one micro-batch of one rank, and the interval that the weight of each lies in.

    Attributes:
        count: items that can count: tokens that are not masked, samples.
        samples: sequences that the items come from, where known.
        places: items with the padding, where known.
        labels: items before a model shifted them, where known.
        mass: what the items weigh together, where the loss function was given weights of classes.
        goes_by_mass: whether this stands for the count in every formula.
    """

    rank: int
    micro_batch: int
    count: int
    low: float
    high: float
    step: int = 0
    samples: int | None = None
    places: int | None = None
    labels: int | None = None
    mass: float | None = None
    goes_by_mass: bool = False

    def counted(self, kind: str) -> Fraction | int | None:
        """Return the count of this kind: n, s, p or m."""
        if kind == "n" and self.goes_by_mass:
            return Fraction(self.mass or 0)
        counts = {"n": self.count, "s": self.samples, "p": self.places, "m": self.labels}
        return counts[kind]


@dataclass(frozen=True)
class Formula:
    """A product of powers of counts, times a factor.

    >>> str(Formula({"W": -1, "n_r": -1})), str(Formula({"N": -1}, Fraction(3, 2)))
    ('1/(W·n_r)', '3/2 · 1/N')
    """

    powers: Mapping[str, int]
    factor: Fraction = Fraction(1)

    def __str__(self) -> str:
        above = [_power(s, e) for s, e in self.powers.items() if e > 0]
        below = [_power(s, -e) for s, e in self.powers.items() if e < 0]
        bottom = f"({'·'.join(below)})" if len(below) > 1 else "".join(below)
        text = "·".join(above) or "1"
        text += f"/{bottom}" if below else ""
        if self.factor == 1:
            return text
        number = (
            str(self.factor)
            if self.factor.denominator <= _SIMPLEST
            else f"{float(self.factor):.6g}"
        )
        return f"{number} · {text}" if self.powers else number

    def __hash__(self) -> int:
        return hash((tuple(self.powers.items()), self.factor))

    def value(self, counts: Counts) -> Fraction | None:
        """Return the weight that it gives to an item; None where a count is unknown or zero."""
        weight = self.factor
        for symbol, exponent in self.powers.items():
            count = counts.get(symbol)
            if not count:
                return None
            weight *= count**exponent
        return weight

    def fits(self, cells: Sequence[Cell], world: int) -> bool:
        """Whether each item's weight may be what it says."""
        return self.misfit(cells, world) is None

    def misfit(self, cells: Sequence[Cell], world: int) -> Cell | None:
        """Return the first cell whose interval leaves the formula's value out."""
        for cell, counts in zip(cells, counts_around(cells, world), strict=True):
            value = self.value(counts)
            if value is None or not _within(value, cell.low, cell.high):
                return cell
        return None


@dataclass(frozen=True)
class Reading:
    """The formulas that fit.

    Attributes:
        same: give the same weights, the simplest first; counts that differ would part them.
        others: formulas that give other weights, which the intervals cannot exclude.
    """

    same: tuple[Formula, ...] = ()
    others: tuple[Formula, ...] = field(default=())

    def __str__(self) -> str:
        if not self.same:
            return "no known formula"
        text = " = ".join(map(str, self.same))
        return f"{text} (or {', or '.join(map(str, self.others))})" if self.others else text

    @property
    def simplest(self) -> Formula | None:
        """Return the formula with the fewest powers."""
        return self.same[0] if self.same else None


def read(cells: Sequence[Cell], world: int, among: Sequence[Cell] = ()) -> Reading:
    """Find the formulas that lie inside the intervals of all cells.

    Cells without items say nothing and are left out. A factor is looked for only where no product
    of powers fits, and must be the same in all cells of all steps.

    Args:
        cells: of whole steps.
        world: W.
        among: these cells and those of other steps, by which a short window is known.
    """
    cells = [cell for cell in cells if cell.count]
    if not cells:
        return Reading()
    every = [cell for cell in among if cell.count] or cells
    kept = set(map(id, cells))
    around = [
        counts
        for cell, counts in zip(every, counts_around(every, world), strict=True)
        if id(cell) in kept
    ]
    fitting: dict[tuple[Fraction, ...], list[tuple[int, Formula]]] = defaultdict(list)
    for formula, values in _that_fit(cells, around):
        fitting[values].append((_complexity(formula), formula))
    if not fitting:
        with_factor = _with_factor(cells, around)
        return Reading((with_factor,) if with_factor else ())
    ordered = sorted((sorted(alike, key=_first) for alike in fitting.values()), key=_of_first)
    least = ordered[0][0][0]
    same = tuple(formula for complexity, formula in ordered[0] if complexity == least)
    near = [alike[0][1] for alike in ordered[1:] if alike[0][0] <= least + 2]
    return Reading(same, tuple(near[:_MOST_OTHERS]))


def counts_around(cells: Sequence[Cell], world: int) -> list[dict[str, Fraction]]:
    """Return the counts around each cell by their symbols; what is unknown is absent."""
    tables: list[dict[str, Fraction]] = [{} for _ in cells]
    steps: dict[int, list[int]] = defaultdict(list)
    for at, cell in enumerate(cells):
        steps[cell.step].append(at)
    widths = {step: len({cells[at].micro_batch for at in ats}) for step, ats in steps.items()}
    for ats in steps.values():
        for kind in _KINDS:
            counts = [cells[at].counted(kind) for at in ats]
            if None in counts or (kind != "n" and counts == [cells[at].count for at in ats]):
                continue
            _count_kind(tables, cells, ats, kind)
    longest = max(widths.values(), default=0)
    for at, cell in enumerate(cells):
        tables[at] |= {"W": Fraction(world), "K": Fraction(widths[cell.step])}
        if longest > min(widths.values()):
            tables[at]["K_full"] = Fraction(longest)
    return tables


def _count_kind(
    tables: list[dict[str, Fraction]], cells: Sequence[Cell], ats: Sequence[int], kind: str
) -> None:
    by_rank: dict[int, Fraction] = defaultdict(Fraction)
    by_micro_batch: dict[int, Fraction] = defaultdict(Fraction)
    for at in ats:
        count = cells[at].counted(kind) or 0
        by_rank[cells[at].rank] += count
        by_micro_batch[cells[at].micro_batch] += count
    for at in ats:
        tables[at] |= {
            f"{kind}_rk": Fraction(cells[at].counted(kind) or 0),
            f"{kind}_r": Fraction(by_rank[cells[at].rank]),
            f"{kind}_k": Fraction(by_micro_batch[cells[at].micro_batch]),
            _TOTALS[kind]: Fraction(sum(by_rank.values())),
        }


def _that_fit(
    cells: Sequence[Cell], around: Sequence[Counts]
) -> Iterator[tuple[Formula, tuple[Fraction, ...]]]:
    """Yield what fits with its values; floats rule out most before fractions decide."""
    lows, highs = (np.array([getattr(cell, end) for cell in cells]) for end in ("low", "high"))
    slack = 2.0**-40 * np.maximum(np.abs(lows), np.abs(highs))
    shared = set.intersection(*(set(counts) for counts in around))
    has_ranks, has_micro_batches = (any(counts[s] > 1 for counts in around) for s in "WK")
    symbols = sorted(shared)
    logarithms = np.log([[float(counts[s] or 1) for s in symbols] for counts in around])
    for formula in candidates(
        has_ranks, has_micro_batches, frozenset(shared & _OPTIONAL)
    ):  # zero counts leave a formula without a value
        exponents = np.array([formula.powers.get(s, 0) for s in symbols])
        near = np.exp(logarithms @ exponents)
        if ((near < lows - slack) | (near > highs + slack)).any():
            continue
        values = [formula.value(counts) for counts in around]
        if all(
            value is not None and _within(value, cell.low, cell.high)
            for value, cell in zip(values, cells, strict=True)
        ):
            yield formula, tuple(value for value in values if value is not None)


_OPTIONAL = frozenset(
    {f"{kind}_rk" for kind in "spm"} | {"K_full"}
)  # of each kind the four come together


@lru_cache(maxsize=64)
def candidates(
    has_ranks: bool, has_micro_batches: bool, known: frozenset[str]
) -> tuple[Formula, ...]:
    """Return every product that is tried.

    Args:
        has_ranks: whether W is more than 1.
        has_micro_batches: whether K is more than 1.
        known: which of the counts beside n, W and K there are.
    """
    of_ranks, of_micro_batches = (
        range(-2, 3) if many else (0,) for many in (has_ranks, has_micro_batches)
    )
    scales = [
        (w, k) for w, k in product(of_ranks, of_micro_batches) if abs(w) + abs(k) <= _MOST_POWERS
    ]
    # With one rank, or one micro-batch, several counts are one: the plainer symbol stands for all.
    indices = ("r" if has_ranks else "", "k" if has_micro_batches else "")
    formulas = []
    for powers in _quotients(known, indices):
        for w, k in scales:
            whole = {"W": w, "K": k, **powers}
            formulas.append(Formula({s: e for s, e in whole.items() if e}))
    return tuple(formulas)


def _quotients(known: frozenset[str], indices: tuple[str, str]) -> Iterator[dict[str, int]]:
    """Yield the products of powers of counts, without W and K."""
    symbols = {kind: _symbols(kind, indices) for kind in _KINDS}
    yield {}
    for kind in _KINDS:
        if kind == "n" or f"{kind}_rk" in known:
            yield from ({symbol: -1} for symbol in symbols[kind])
    for upper, lower in permutations(symbols["n"], 2):
        yield {upper: 1, lower: -1}
    if "s_rk" in known:
        for (upper, whole), lower in product(permutations(symbols["s"], 2), symbols["n"]):
            yield {upper: 1, whole: -1, lower: -1}
    if "K_full" in known:
        yield from ({"K_full": -1, symbol: -1} for symbol in symbols["n"])


def _symbols(kind: str, indices: tuple[str, str] = ("r", "k")) -> tuple[str, ...]:
    """Return the counts of a kind, the largest first; without an index that has one value."""
    rank, micro_batch = indices
    one_index = [f"{kind}_{index}" for index in (rank, micro_batch) if index]
    return (_TOTALS[kind], *one_index, *([f"{kind}_rk"] if rank and micro_batch else []))


def _complexity(formula: Formula) -> int:
    """Return how much a formula asks one to believe: its powers, more for counts of other kinds."""
    plain = {"W", "K", *_symbols("n")}
    return sum(abs(e) + (abs(e) > 1) + (s not in plain) for s, e in formula.powers.items())


def _first(item: tuple[int, Formula]) -> int:
    return item[0]


def _of_first(alike: Sequence[tuple[int, Formula]]) -> int:
    return alike[0][0]


def _with_factor(cells: Sequence[Cell], around: Sequence[Counts]) -> Formula | None:
    """Return the first of 1/N, 1/n_r, 1/n_k, 1/n_rk and 1 that fits with one factor everywhere."""
    for powers in [*({symbol: -1} for symbol in _symbols("n")), {}]:
        formula = Formula(powers)
        low, high = -inf, inf
        for cell, counts in zip(cells, around, strict=True):
            value = formula.value(counts)
            if value is None:
                break
            low, high = max(low, cell.low / float(value)), min(high, cell.high / float(value))
        else:
            low, high = nextafter(low, -inf), nextafter(high, inf)
            if -inf < low <= high < inf and not low <= 0 <= high:
                return Formula(powers, simplest_between(Fraction(low), Fraction(high)))
    return None


def simplest_between(low: Fraction, high: Fraction) -> Fraction:
    """Return the fraction of the smallest denominator in an interval.

    >>> simplest_between(Fraction("0.333"), Fraction("0.334"))
    Fraction(1, 3)
    """
    if low > high:
        raise ValueError(f"an empty interval: {low} to {high}")
    if low < 0:
        return Fraction(0) if high >= 0 else -simplest_between(-high, -low)
    whole = -(-low.numerator // low.denominator)  # rounded up
    if whole <= high:
        return Fraction(whole)
    below = whole - 1
    return below + 1 / simplest_between(1 / (high - below), 1 / (low - below))


def over(cells: Sequence[Cell], scale: float) -> list[Cell]:
    """Return cells whose weights are divided by a number."""
    ends = [sorted((cell.low / scale, cell.high / scale)) for cell in cells]
    return [replace(c, low=low, high=high) for c, (low, high) in zip(cells, ends, strict=True)]


def by_mass(cells: Sequence[Cell]) -> list[Cell]:
    """Return cells that count what their items weigh; scripts add that up in float32."""
    off = sum(cell.count for cell in cells) * 2.0**-24
    return [
        replace(
            cell,
            goes_by_mass=True,
            low=min(cell.low * (1 - off), cell.low * (1 + off)),
            high=max(cell.high * (1 - off), cell.high * (1 + off)),
        )
        for cell in cells
    ]


def _within(value: Fraction, low: float, high: float) -> bool:
    return (low == -inf or Fraction(low) <= value) and (high == inf or value <= Fraction(high))


def _power(symbol: str, exponent: int) -> str:
    return symbol if exponent == 1 else f"{symbol}{'²³'[exponent - 2]}"
