"""What each term's items counted for over the steps of one optimizer, and what that is called."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from conformance.weighing.clips import clipping, is_clipped_by_hand, is_clipped_early
from conformance.weighing.formula import Cell, Reading, by_mass, over, read
from conformance.weighing.kinds import Row, apart, are_alike, numbered
from conformance.weighing.naming import (
    Origin,
    constant_factor,
    is_loss_scale,
    kept_in_steps,
    mistakes,
)
from conformance.weighing.own_weights import OWN_WEIGHTS, by_own_weights, judged_by_either
from conformance.weighing.promises import PROMISES, formulas, kept
from conformance.weighing.records import HALF, SUMMED, Part, Pass, Step, Term
from conformance.weighing.terms_beside import (
    OF_SCALES,
    look_for_chosen_items,
    look_for_one_count,
    of_whole_batches,
    without_idle,
    without_own_scales,
)
from conformance.weighing.verdict import TermWeights

if TYPE_CHECKING:
    from fractions import Fraction

# Wrong whatever is meant; a factor of W or K, or a sum, is what some promise asks for.
_ALWAYS_WRONG = frozenset(
    {"shifted-labels-counted", "padding-counted", "other-windows-count", "rank-missing",
     "sample-share-for-token-share", "short-window-divided-by-k", "counted-twice", "counts-nothing",
     "last-micro-batch-only", "shard-0-returned", "loss-scale-left-in", "one-count-for-all-terms"}
)  # fmt: skip
_ANY_SCALE = (
    "each term has a factor, which may be the loss's own, or W or K too many or too few in all of "
    "them: another number of ranks or micro-batches tells"
)
_MAY_BE_TOO_MUCH = (
    "one term has a factor of W or K, which may be its own, or too many in all of them, of which "
    "another one has one over it: another number of ranks or micro-batches tells"
)
_MAY_BE_ITS_OWN = (
    "its factor of {:g} may be the loss's own, as of squares that are halved or of a softmax over "
    "a temperature, or W or K too many: another number of ranks or micro-batches tells"
)
_SCHEDULE = "it has a factor of its own in each step, as of a schedule or of a mix that is drawn"
_OF_SAMPLES = "what a sample's items give is added up, and the mean is over samples"
_NO_TARGET = "rows without a target share the mean, as of samples that have no positive beside them"
_MAY_BE_CLIPPED = "one step has less weight, as by a clip of the script's own: weigh more steps"
_MAY_BE_TASKS = (
    "several losses of one kind in one backward pass: as micro-batches of one loss they break the "
    "promise, as tasks of their own they keep it"
)
_MEANS = ("rank_mean", "sample_mean", "step_mean")
_LOSS_SCALE = 256  # torch's GradScaler halves and doubles from 65,536; W and K are smaller


def kept_passes(step: Step) -> list[tuple[int, Pass]]:
    """Return the passes that belong to the step, with their columns.

    A pass that counts nothing here belongs elsewhere if another optimizer stepped by it, or if its
    batch was backpropagated again and counts then: a second look at one batch is no second batch,
    as where parameters are moved for a moment to find a gradient nearby.
    """
    solved = step.parts[0].by_rank[0]
    counting = [p for c, p in enumerate(step.passes) if solved.may_count(c)]
    return [
        (c, p)
        for c, p in enumerate(step.passes)
        if p in counting or not (p.is_spent or any(_is_second_look(p, other) for other in counting))
    ]


def _is_second_look(one: Pass, other: Pass) -> bool:
    """Whether passes are of one batch: over one forward pass, or by parameters moved between."""
    if one.rank != other.rank:
        return False
    is_again = one.digest == other.digest and one.state != other.state
    return is_again or (one.forward is not None and one.forward == other.forward)


def term_weights(
    steps: Sequence[Step], promise: str | None, others: Sequence[Step] = ()
) -> list[TermWeights]:
    """Judge every term; terms of one name that are wrong apart may be right together.

    Args:
        steps: of one optimizer.
        promise: or None.
        others: steps of other optimizers, with which it may be clipped.
    """
    world = steps[0].world
    rows = [(s, c, p, term) for s in steps for c, p in kept_passes(s) for term in p.terms]
    rows = without_idle(apart(by_own_weights(of_whole_batches(rows))))
    own = _cells_of(rows)
    items = [name for name in own if not own[name].note]
    judged = {name: _judge(own[name], world, promise, is_free=len(items) > 1) for name in own}
    if items and all(judged[name].is_constant for name in items):
        again = {name: _judge(own[name], world, promise, is_free=False) for name in items}
        named = [term.names or () for term in again.values()]
        common = tuple(name for name in named[0] if all(name in each for each in named))
        size = 1 + max(cell.micro_batch for cell in own[items[0]].cells)
        sizes = {world, size, 1 / world, 1 / size} - {1}
        terms = [judged[name] for name in items]
        # A mean of terms of one name is known when these are put together.
        are_unlike = len({name.partition(" #")[0] for name in items}) > 1
        is_mean = are_unlike and _add_up_to({1}, terms, world, promise)
        if common and not is_mean and _have_one_factor([t.cells for t in terms], world, promise):
            judged |= {name: replace(term, names=common) for name, term in again.items()}
        elif any(named) or _add_up_to(sizes, terms, world, promise):
            judged |= {name: replace(judged[name], note=_ANY_SCALE) for name in items}
    elif any(judged[n].names is None and not judged[n].is_constant for n in items) and any(
        _is_too_much(judged[n], world, promise) for n in items
    ):
        judged |= {name: replace(judged[name], note=_MAY_BE_TOO_MUCH) for name in items}
    judged |= without_own_scales({name: judged[name] for name in items})
    judged |= {
        name: replace(judged[name], is_of_each_rank=True)
        for name in own
        if promise in _MEANS and own[name].term.is_penalty and _is_of_each_rank(own[name], world)
    }
    look_for_one_count(judged)
    look_for_chosen_items(judged, world)
    told = [
        each
        for name, term in judged.items()
        for each in _of_batches(term, [row for row in rows if row[3].name == name], world, promise)
    ]
    pooled = _pooled(told, world, promise)
    terms = [_unclipped(term, steps, others, promise) for term in pooled]
    return [_scheduled(term, world, promise) for term in terms] if len(terms) > 1 else terms


def _add_up_to(
    wholes: Collection[float], terms: Sequence[TermWeights], world: int, promise: str | None
) -> bool:
    """Whether the factors of all terms, as of labels and of a teacher, add up to one of these."""
    plain = [replace(t, cells=over(t.cells, t.term.own_scale)) for t in terms]
    for formula in formulas(promise or "step_mean"):
        for each in (terms, plain):
            factors = [constant_factor(term.cells, world, formula.powers) for term in each]
            known = [factor for factor in factors if factor is not None]
            low, high = (sum(factor[end] for factor in known) for end in (0, 1))
            if len(known) == len(terms) and any(low <= whole <= high for whole in wholes):
                return True
    return False


def _is_too_much(term: TermWeights, world: int, promise: str | None) -> bool:
    """Whether a term's factor may be W or K too many: with that of another term it is 1.

    A script that writes 1/2 beside a loss means the other one to count 1, and then both have it.
    """
    size = 1 + max(cell.micro_batch for cell in term.cells)
    sizes = {world, size, world * size, world**2} - {1}
    factors = _factors(term, world, promise) if term.is_constant else []
    return any(low <= each <= high for low, high in factors for each in sizes)


def _factors(term: TermWeights, world: int, promise: str | None) -> list[tuple[float, float]]:
    """Return by what a term's weights are off each formula of a promise, where it is one factor."""
    found = (
        constant_factor(term.cells, world, formula.powers)
        for formula in formulas(promise or "step_mean")
    )
    return [factor for factor in found if factor is not None]


def _have_one_factor(terms: Sequence[Sequence[Cell]], world: int, promise: str | None) -> bool:
    """Whether all terms are a promise's but for the same factor."""
    for formula in formulas(promise) if promise else ():
        factors = [constant_factor(cells, world, formula.powers) for cells in terms]
        known = [factor for factor in factors if factor is not None]
        if len(known) == len(factors) and max(known)[0] <= min(high for _, high in known):
            return True
    return False


@dataclass
class _Own:
    """What is known of one term: its first, its cells, what the loss gives, why not to judge it."""

    term: Term
    cells: list[Cell] = field(default_factory=list)
    shares: list[Cell] = field(default_factory=list)
    note: str = ""


def _cells_of(rows: Sequence[Row]) -> dict[str, _Own]:
    """Return the terms by name; each row of a step and rank is a micro-batch, in their order.

    A term that is taken away everywhere has items of that sign: of −log p none counts less than 0.
    """
    own: dict[str, _Own] = {}
    number: dict[tuple[int, int, str], int] = defaultdict(int)
    for step, column, one, term in rows:
        k = number[step.step, one.rank, term.name]
        number[step.step, one.rank, term.name] += 1
        known = own.setdefault(term.name, _Own(term))
        known.note = known.note or _why_not(term, one, step)
        known.cells.append(_cell(step, step.parts[0], column, one, k, term))
        known.shares.append(_share(step, one, k, term))
    for known in own.values():
        if all(share.high < 0 for share in known.shares):
            known.cells, known.shares = over(known.cells, -1.0), over(known.shares, -1.0)
    return own


def _is_of_each_rank(own: _Own, world: int) -> bool:
    """Whether a penalty is in a step W times as often as in each rank's loss."""
    for step in {cell.step for cell in own.cells} if world > 1 else ():
        low, high = (
            sum(getattr(cell, end) for cell in own.cells if cell.step == step)
            for end in ("low", "high")
        )
        written = sum(share.low + share.high for share in own.shares if share.step == step) / 2
        if low <= written <= high:  # the sum of all ranks' losses
            return True
    return False


def _of_batches(
    term: TermWeights, rows: Sequence[Row], world: int, promise: str | None
) -> list[TermWeights]:
    """Judge a term of which one backward pass has several: as micro-batches, if they can be.

    Where these keep no promise, each may keep it as a task of its own, with a scale of its own. Of
    losses from a loop that is believed only if no mistake gives their weights.
    """
    if term.note or term.names is None or all(row[3].batch is None for row in rows):
        return [term]
    is_sure = any(row[3].is_of_loop for row in rows)
    if term.names and is_sure:
        return [term]
    tasks = _cells_of([(*row[:3], replace(row[3], name=numbered(row[3]))) for row in rows])
    each = {name: _judge(task, world, promise, is_free=True) for name, task in tasks.items()}
    look_for_chosen_items(each, world)
    if any(task.names is not None for task in each.values()):
        return [term]
    if not is_sure and not are_alike(rows):
        return list(each.values())
    return [replace(term, names=None, note=_MAY_BE_TASKS)]


def _judge(own: _Own, world: int, promise: str | None, *, is_free: bool) -> TermWeights:
    whole = _judged(own.term, own.cells, own.shares, own.note, world, promise, is_free=is_free)
    if own.note or (whole.names is None and whole.promises and not whole.note):
        return whole
    # Items that have weights: a mean goes by these, or by the items as any other.
    judged = whole
    if all(cell.mass is not None for cell in own.cells):
        cells, shares = by_mass(own.cells), by_mass(own.shares)
        judged = _judged(own.term, cells, shares, own.note, world, promise, is_free=is_free)
        judged = replace(judged, cells=own.cells)
    return judged_by_either(judged, whole) if own.term.is_weighed else judged


def _unclipped(
    term: TermWeights, steps: Sequence[Step], others: Sequence[Step], promise: str | None
) -> TermWeights:
    """Pass a term that keeps its promise but for a factor by which the script itself clips."""
    if term.names != () or any(step.clips or len(step.parts) > 1 for step in steps):
        return term
    if is_clipped_early(steps):
        return replace(term, names=("clipped-before-averaging",))
    for each, factors in kept_in_steps(term.cells, steps[0].world, promise):
        is_clipped = is_clipped_by_hand(steps, factors, others)
        if is_clipped:
            return replace(term, names=None, is_clipped=True, promises=(each,))
        if is_clipped is None:
            return replace(term, names=None, note=_MAY_BE_CLIPPED)
    return term


def _why_not(term: Term, one: Pass, step: Step) -> str:
    if term.is_penalty:
        return "depends on parameters alone; it has no items"
    if term.count is None and "Compiled" in term.name:
        return "compiled into one function; weigh with TORCH_COMPILE_DISABLE=1 to see its items"
    if term.count is None:
        return "a function of its own, whose items nobody can know"
    if not term.is_linear:
        return "no weighted sum of its items' losses"
    if not term.is_even:
        return OWN_WEIGHTS
    if one.couples and not (one.couples == SUMMED and step.counts_alike(one.micro_batch)):
        return f"couples the ranks ({one.couples})"
    return ""


def _cell(step: Step, part: Part, column: int, one: Pass, k: int, term: Term) -> Cell:
    solved, factor = part.by_rank[0], clipping(step).of(part, one.micro_batch)
    value, half = solved.values[column], solved.half[column]
    if not term.share:  # whatever the gradient was multiplied by
        value = half = 0.0
    low, high = (-inf, inf) if value is None or half is None else (value - half, value + half)
    # A clip's factor is a sum, a quotient and a product in float32: three roundings.
    rounding = term.rounding + (3 * 2.0**-24 if factor < 1 else 0.0)
    ends = sorted(
        end * term.share * (1 + sign * rounding) / factor
        for end, sign in ((low, 1), (low, -1), (high, 1), (high, -1))
    )
    ends = [-inf, inf] if value is None or half is None else ends
    return Cell(
        one.rank, k, term.count or 0, float(np.nextafter(ends[0], -inf)),
        float(np.nextafter(ends[-1], inf)), step.step, term.samples, term.places, term.labels,
        term.mass,
    )  # fmt: skip


def _share(step: Step, one: Pass, k: int, term: Term) -> Cell:
    width = abs(term.share) * term.rounding
    low, high = np.nextafter(term.share - width, -inf), np.nextafter(term.share + width, inf)
    return Cell(
        one.rank,
        k,
        term.count or 0,
        float(low),
        float(high),
        step.step,
        term.samples,
        mass=term.mass,
    )


def _judged(
    term: Term,
    cells: Sequence[Cell],
    shares: Sequence[Cell],
    note: str,
    world: int,
    promise: str | None,
    *,
    is_free: bool,
) -> TermWeights:
    if not note and any(c.count and (c.low == -inf or c.high == inf) for c in cells):
        note = "its weights cannot be told: the gradients depend on each other"
    reading = read(cells, world) if not note else Reading()
    if note or not any(cell.count for cell in cells):
        return TermWeights(term, cells, reading, None, (), note or "it has no items")
    origin = Origin(shares, term.is_mean)
    promises = kept(cells, world)
    if promise is None:
        every = [mistakes(cells, world, each, None, origin) for each in PROMISES]
        least = None if None in every else every[PROMISES.index("step_mean")] or ()
        # Without a promise a factor is the script's own, even if it is one over as many samples.
        names = least if least is not None and set(least) & _ALWAYS_WRONG else None
        is_share = names == ("sample-share-for-token-share",)
        names = None if is_share and constant_factor(cells, world, {"N": -1}) else names
        if least == () and not reading.same:
            names = ()
    else:
        names = mistakes(cells, world, promise, None, origin)
        # Where the promise is kept, nobody asks what it would be without the loss's own factor.
        bare = (
            mistakes(over(cells, term.own_scale), world, promise, None, origin)
            if names or term.is_halved_itself
            else None
        )
        if term.is_halved_itself and not names and (bare is None or set(bare) & OF_SCALES):
            note = _MAY_BE_ITS_OWN.format(term.own_scale)
            return TermWeights(term, cells, reading, None, promises, note)
        if names is not None and _is_scaled(cells, world, promise, names, is_free=is_free):
            return TermWeights(term, cells, reading, None, (promise,), is_constant=True)
        rest = names and bare
        if names and rest is None:
            note = _MAY_BE_ITS_OWN.format(term.own_scale)
            return TermWeights(term, cells, reading, None, promises, note)
        names = rest if names and rest and len(rest) < len(names) else names
    if term.is_of_soft_targets and names == ("padding-counted",):
        return TermWeights(term, cells, reading, None, promises, _NO_TARGET)
    has_samples = all(cell.samples or not cell.count for cell in cells)
    if names and has_samples and not _is_mean_of_items(shares, world):
        scale = HALF if term.is_halved_itself else 1.0
        by_samples = [replace(cell, count=cell.samples or 0) for cell in over(cells, scale)]
        note = _OF_SAMPLES if mistakes(by_samples, world, promise or "step_mean") is None else ""
    if note:
        return TermWeights(term, cells, reading, None, promises, note)
    if names is not None and _is_loss_scale(reading):
        names = ("loss-scale-left-in",)
    return TermWeights(term, cells, reading, names, promises)


def _is_mean_of_items(shares: Sequence[Cell], world: int) -> bool:
    """Whether the loss itself divides by its items, so that no sample's are added up."""
    every = [{s: e for s, e in formula.powers.items() if s != "K" or e > 0}
             for formula in read(shares, world).same]  # fmt: skip
    return any(powers in ({"n_rk": -1}, {"n_r": -1}, {"n_k": -1}, {"N": -1}) for powers in every)


def _is_scaled(
    cells: Sequence[Cell], world: int, promise: str, names: Sequence[str], *, is_free: bool
) -> bool:
    """Whether all weights are a promise's times one factor that the loss may well have.

    A factor that is a power of W or K has a name, and is one mistake of all terms; with a single
    term it is taken for that.
    """
    if names and not is_free:
        return False
    for formula in formulas(promise):
        factor = constant_factor(cells, world, formula.powers)
        if factor is not None and not is_loss_scale(factor):
            return True
    return False


def _is_loss_scale(reading: Reading) -> bool:
    simplest = reading.simplest
    if simplest is None or simplest.factor == 1:
        return False
    factor: Fraction = simplest.factor
    return factor >= _LOSS_SCALE and factor.denominator == 1 and factor.numerator.bit_count() == 1


def _scheduled(term: TermWeights, world: int, promise: str | None) -> TermWeights:
    """Judge no term, of several, whose factor differs from step to step, and in no step.

    So is a term that comes in by and by, and each of two that a number drawn anew mixes.
    """
    steps = {cell.step for cell in term.cells if cell.count}
    if term.names != () or len(steps) < 2:
        return term
    if any(kept_in_steps(term.cells, world, promise)):
        return replace(term, names=None, note=_SCHEDULE)
    return term


def _pooled(terms: Sequence[TermWeights], world: int, promise: str | None) -> list[TermWeights]:
    """Put terms of one name together where they are right together and wrong apart."""
    families: dict[str, list[TermWeights]] = defaultdict(list)
    for term in terms:
        families[term.term.name.partition(" #")[0]].append(term)
    judged: list[TermWeights] = []
    for family in families.values():
        if len(family) > 1 and any(t.names is not None for t in family):
            whole: dict[tuple[int, int, int], list[Cell]] = defaultdict(list)
            for term in family:
                for cell in term.cells:
                    whole[cell.step, cell.rank, cell.micro_batch].append(cell)
            cells = [
                Cell(r, k, sum(c.count for c in own), max(c.low for c in own),
                     min(c.high for c in own), step)
                for (step, r, k), own in whole.items()
            ]  # fmt: skip
            together = _judged(family[0].term, cells, (), "", world, promise, is_free=False)
            has_scale = any(t.names for t in family)  # which the whole has as well
            if together.names is None and not (together.is_constant and has_scale):
                judged.append(together)
                continue
        judged += family
    return judged
