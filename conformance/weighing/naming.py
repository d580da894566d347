"""What a formula is called where another was promised: the mistakes' names."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf

from conformance.weighing.formula import Cell, Formula, Reading, counts_around
from conformance.weighing.formula import read as read_formulas
from conformance.weighing.promises import PROMISES, MicroBatches, formulas

_KINDS_NAMED = {"p": "padding-counted", "m": "shifted-labels-counted"}


@dataclass(frozen=True)
class Origin:
    """What the loss alone gives to the items, before gradients are reduced.

    Attributes:
        shares: the cells with the derivative of the loss that was backpropagated, per item.
        is_mean: whether the loss function itself divides by its items.
        is_averaged: whether the items' weights are the shares over W: ranks are averaged.
    """

    shares: Sequence[Cell] = ()
    is_mean: bool = True
    is_averaged: bool = False


def mistakes(
    cells: Sequence[Cell],
    world: int,
    promise: str,
    micro_batches: MicroBatches | None = None,
    origin: Origin | None = None,
) -> tuple[str, ...] | None:
    """Name what was done instead of what is promised; None where the promise is kept.

    An empty tuple stands for weights that no known mistake gives.
    """
    wanted = formulas(promise, micro_batches)
    cells = [cell for cell in cells if cell.count]
    if any(formula.fits(cells, world) for formula in wanted):
        return None
    uneven = _uneven(cells, world, wanted)
    if uneven:
        return uneven
    reading = read_formulas(cells, world)
    simplest = reading.simplest
    is_short = _is_short(cells, world)
    origin = origin or Origin()
    if simplest is None or simplest.factor != 1 or is_short:
        others: tuple[str, ...] = ("other-windows-count",) if _are_of_other_windows(cells) else ()
        if not others and simplest is not None and not is_short:
            others = _of_shape(cells, world, simplest, wanted, origin)
        return (*(("short-window-divided-by-k",) if is_short else ()), *others)
    if not origin.is_averaged:
        origin = replace(origin, is_averaged=_is_averaged(cells, origin.shares, world))
    scale = _of_common_factor(cells, world, wanted, origin)
    has_counts = all(set(formula.powers) - {"W", "K"} for formula in reading.same)
    # Counts that are equal everywhere fit a mean of means as well; the factor says enough.
    is_said = bool(scale) and has_counts and not _is_other_kind(reading)
    own = [f for f in reading.same if not is_said or _is_of_other_kind(f)]
    named = [scale, *(_of_formula(formula, wanted, origin, world) for formula in own)]
    return tuple(dict.fromkeys(name for names in named for name in names))


def _is_short(cells: Sequence[Cell], world: int) -> bool:
    """Whether windows of unlike lengths are divided by the longest one's number of micro-batches.

    Where that number is W, other formulas fit as well; windows that differ point to this one.
    """
    divided = ({"n_k": -1}, {"W": -1, "n_rk": -1}, {"n_rk": -1})
    return any(Formula({"K_full": -1, **powers}).fits(cells, world) for powers in divided)


def _of_shape(
    cells: Sequence[Cell],
    world: int,
    formula: Formula,
    wanted: Sequence[Formula],
    origin: Origin,
) -> tuple[str, ...]:
    """Name the counts that a term of some factor is divided by; the factor may be its own."""
    if any(constant_factor(cells, world, each.powers) is not None for each in wanted):
        return ()
    return tuple(_of_counts(formula.powers, origin))


def constant_factor(
    cells: Sequence[Cell], world: int, powers: Mapping[str, int]
) -> tuple[float, float] | None:
    """Return the interval of the one factor between the weights and a formula; None if none is."""
    low, high = -inf, inf
    items = [cell for cell in cells if cell.count]
    for cell, around in zip(items, counts_around(items, world), strict=True):
        value = Formula(powers).value(around)
        if value is None:
            return None
        low, high = max(low, cell.low / float(value)), min(high, cell.high / float(value))
    return (low, high) if low <= high and not low <= 0 <= high else None


def is_loss_scale(factor: tuple[float, float]) -> bool:
    """Whether a factor is a loss scale: a power of two that is large, or one over it."""
    low, high = sorted(map(abs, factor))
    return any(
        low <= scale <= high for power in range(8, 33) for scale in (2.0**power, 2.0**-power)
    )


def kept_in_steps(
    cells: Sequence[Cell], world: int, promise: str | None
) -> Iterator[tuple[str, dict[int, tuple[float, float]]]]:
    """Yield promises that every step keeps but for a factor of its own, with these factors."""
    cells = [cell for cell in cells if cell.count]
    for each in PROMISES if promise is None else (promise,):
        for formula in formulas(each):
            factors = {
                step: constant_factor([c for c in cells if c.step == step], world, formula.powers)
                for step in {cell.step for cell in cells}
            }
            known = {step: factor for step, factor in factors.items() if factor is not None}
            if len(known) == len(factors):
                yield each, known


def _is_other_kind(reading: Reading) -> bool:
    """Whether all formulas speak of samples, places or labels, and not of items alone."""
    return all(map(_is_of_other_kind, reading.same))


def _is_of_other_kind(formula: Formula) -> bool:
    return any(s[0].lower() in "spm" for s in formula.powers)


def _are_of_other_windows(cells: Sequence[Cell]) -> bool:
    """Whether items count one over the count of the window before, or of two windows."""
    totals: dict[int, int] = defaultdict(int)
    for cell in cells:
        totals[cell.step] += cell.count
    counts: list[tuple[int, dict[int, int]]] = [
        (1, {s: totals[s - 1] for s in totals if s - 1 in totals}),
        (2, {s: total + totals[s - 1] for s, total in totals.items() if s - 1 in totals}),
        (2, {s: total + totals[s + 1] for s, total in totals.items() if s + 1 in totals}),
    ]
    for windows, others in counts:
        judged = [cell for cell in cells if cell.step in others]
        # Windows that are as large as their own show nothing: half a loss is no count of two.
        if any(others[s] != windows * totals[s] for s in others) and all(
            cell.low * others[cell.step] <= 1 <= cell.high * others[cell.step] for cell in judged
        ):
            return True
    return False


def _of_common_factor(
    cells: Sequence[Cell], world: int, wanted: Sequence[Formula], origin: Origin
) -> tuple[str, ...]:
    """Name a product of W and K by which all weights are too large or too small."""
    scales = sorted(product(range(-2, 3), repeat=2), key=lambda powers: sum(map(abs, powers)))
    for formula in wanted:
        fitting = [
            (w, k)
            for w, k in scales
            if (w or k) and Formula(_times(formula.powers, w, k)).fits(cells, world)
        ]
        if fitting:  # where W is K, two are as simple, and both are told
            least = sum(map(abs, fitting[0]))
            simplest = [(w, k) for w, k in fitting if abs(w) + abs(k) == least and w * k >= 0]
            return tuple(
                n for w, k in simplest or fitting[:1] for n in _of_scales(w, k, origin, world)
            )
    return ()


def _is_averaged(cells: Sequence[Cell], shares: Sequence[Cell], world: int) -> bool:
    """Whether each weight may be what the loss gives to the item, over W."""
    own = {(c.step, c.rank, c.micro_batch): c for c in shares}
    pairs = [(cell, own.get((cell.step, cell.rank, cell.micro_batch))) for cell in cells]
    return world > 1 and all(
        share is not None
        and cell.low * world <= max(share.low, share.high)
        and cell.high * world >= min(share.low, share.high)
        for cell, share in pairs
    )


def _times(powers: Mapping[str, int], w: int, k: int) -> dict[str, int]:
    product_ = {**powers, "W": powers.get("W", 0) + w, "K": powers.get("K", 0) + k}
    return {s: e for s, e in product_.items() if e}


def _uneven(cells: Sequence[Cell], world: int, wanted: Sequence[Formula]) -> tuple[str, ...]:
    """Name ranks and micro-batches that count nothing, or twice, while others count."""
    nothing = {(c.step, c.rank, c.micro_batch) for c in cells if c.low <= 0 <= c.high}
    rest = [c for c in cells if (c.step, c.rank, c.micro_batch) not in nothing]
    if nothing:
        return (_of_nothing(nothing, cells) if rest else "counts-nothing",)
    for formula in wanted:
        doubled = []
        for cell, counts in zip(cells, counts_around(cells, world), strict=True):
            value = formula.value(counts)
            if value is None:
                break
            if cell.low <= 2 * value <= cell.high:
                doubled.append(cell)
            elif not cell.low <= value <= cell.high:
                break
        else:
            if doubled and len(doubled) < len(cells):
                return ("counted-twice",)
    return ()


def _of_nothing(nothing: set[tuple[int, int, int]], cells: Sequence[Cell]) -> str:
    places = {(c.step, c.rank, c.micro_batch) for c in cells}
    last = {
        (step, rank): max(k for s, r, k in places if (s, r) == (step, rank))
        for step, rank, _ in places
    }
    if nothing == {place for place in places if place[2] != last[place[:2]]}:
        return "last-micro-batch-only"
    ranks = {rank for _, rank, _ in nothing}
    all_of_them = {place for place in places if place[1] in ranks}
    if nothing == all_of_them:
        left = {rank for _, rank, _ in places} - ranks
        return "shard-0-returned" if left == {0} and len(ranks) > 1 else "rank-missing"
    return "counts-nothing"


def _of_formula(
    formula: Formula, wanted: Sequence[Formula], origin: Origin, world: int
) -> tuple[str, ...]:
    """Name a formula by what is left of it when it is divided by the nearest promised one."""
    left = min((_quotient(formula, target) for target in wanted), key=_size)
    names = []
    symbols = dict(formula.powers)
    for kind, name in _KINDS_NAMED.items():
        if any(s == kind.upper() or s.startswith(f"{kind}_") for s in symbols):
            names.append(name)
            left = {
                s: e for s, e in left.items() if s[0].lower() not in (kind, "n") or "_" in s[2:]
            }
    if any(s in ("s_rk", "s_r", "s_k") for s in symbols):
        return ("sample-share-for-token-share",)
    counts = {s: e for s, e in left.items() if s not in ("W", "K")}
    if counts and not names:
        names += _of_counts(symbols, origin)
        if names and names != ["sum-loss"]:
            expected = {
                "W": -1 if "mean-of-means" in names or "local-count" in names else 0,
                "K": -1 if "mean-of-micro-means" in names else 0,
            }
            left = {s: symbols.get(s, 0) - expected[s] for s in "WK"}
        else:
            left = {}
    return (*names, *_of_scales(left.get("W", 0), left.get("K", 0), origin, world))


def _of_scales(w: int, k: int, origin: Origin, world: int) -> tuple[str, ...]:
    """Name powers of W and K that are too many."""
    shares = read_formulas(origin.shares, world).same if origin.shares else ()
    powers = {s for share in shares for s, e in share.powers.items() if e > 0}
    names = []
    if w == 1 and world > 1:
        is_left_in = origin.is_averaged or "W" in powers
        names.append("world-left-in" if is_left_in else "not-divided")
    elif w == -1 and world > 1:
        names.append("divided-twice")
    elif w == 2 and world > 1:
        names.append("squared-world")
    if k == 1:
        left_in = "K" in powers
        names.append("micro-batches-left-in" if left_in else "accumulation-unscaled")
    elif k == -1:
        names.append("accumulation-unscaled")
    return tuple(names)


def _of_counts(symbols: Mapping[str, int], origin: Origin) -> list[str]:
    """Name a formula that divides by other counts than the promised ones."""
    own = "mean-of-means" if origin.is_mean else "local-count"
    below = {s for s, e in symbols.items() if e < 0}
    if "n_rk" in below:
        return [own, "mean-of-micro-means"] if symbols.get("K") or symbols.get("W") else [own]
    if "n_r" in below:
        return [own]
    if "n_k" in below:
        return ["mean-of-micro-means"]
    return [] if "N" in below else ["sum-loss"]


def _quotient(formula: Formula, target: Formula) -> dict[str, int]:
    symbols = {*formula.powers, *target.powers}
    left = {s: formula.powers.get(s, 0) - target.powers.get(s, 0) for s in sorted(symbols)}
    return {s: e for s, e in left.items() if e}


def _size(left: Mapping[str, int]) -> int:
    return sum(map(abs, left.values()))
