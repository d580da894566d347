"""The verdict on weighed steps: what each term's items counted for, and what that is called."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from conformance.weighing.clips import clipping, is_clipped_by_hand
from conformance.weighing.findings import Finding, listed
from conformance.weighing.formula import Cell, Reading, read
from conformance.weighing.gradients import agree, findings
from conformance.weighing.kinds import apart
from conformance.weighing.naming import Origin, constant_factor, mistakes
from conformance.weighing.promises import PROMISES, formulas, kept
from conformance.weighing.records import Part, Pass, Step, Term
from conformance.weighing.verdict import TermWeights, Verdict

if TYPE_CHECKING:
    from fractions import Fraction

# Wrong whatever is meant; a factor of W or K, or a sum, is what some promise asks for.
_ALWAYS_WRONG = frozenset(
    {"shifted-labels-counted", "padding-counted", "other-windows-count", "rank-missing",
     "sample-share-for-token-share", "short-window-divided-by-k", "counted-twice", "counts-nothing",
     "last-micro-batch-only", "shard-0-returned", "loss-scale-left-in", "one-count-for-all-terms"}
)  # fmt: skip
_COPIES = Finding(
    ("moved-after-wrapping",),
    (("gradients went to tensors of just the shapes of the optimizer's parameters, none of which "
     "it holds"),),
)  # fmt: skip
_AVERAGED = Finding(
    (),
    (("every rank steps with its own gradient, and all have the same parameters again before the "
      "next step: it is parameters that are averaged"),),
    is_fault=False,
    is_unclear=True,
)  # fmt: skip
_MOST_PARTS = 8  # that are tried, the largest first
_LOSS_SCALE = 256  # torch's GradScaler halves and doubles from 65,536; W and K are smaller


def judge(steps: Sequence[Step], promise: str | None) -> list[Verdict]:
    """Return a verdict for each optimizer that stepped, in the order of first steps."""
    by_optimizer: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        by_optimizer[step.optimizer].append(step)
    return [_verdict(name, own, promise) for name, own in by_optimizer.items()]


def _verdict(optimizer: str, steps: Sequence[Step], promise: str | None) -> Verdict:
    problems = [(step.step, problem) for step in steps if (problem := _problem(step))]
    unweighed = {at for at, _ in problems}
    weighed = [step for step in steps if step.step not in unweighed]
    seen = [(step.step, finding) for step in weighed for finding in findings(step)]
    if _are_averaged_after(weighed):
        seen = [(at, _AVERAGED if "never-synchronised" in f.names else f) for at, f in seen]
    seen += [(step.step, _COPIES) for step in steps if step.problem and step.is_of_copies]
    unclear = {at for at, finding in seen if finding.is_fault or finding.is_unclear}
    clear = [step for step in weighed if step.step not in unclear]
    terms: list[TermWeights] = []
    if clear:
        clear, terms = _by_a_part(clear, promise)
        others = [(step.step, finding) for step in clear for finding in _other_parts(step)]
        if any("parameters-scaled-apart" in finding.names for _, finding in others):
            note = "every parameter has a factor of its own in each step"
            terms = [replace(t, names=None, note=note) if t.names == () else t for t in terms]
        seen += others
    return Verdict(optimizer, promise, steps[0].world, steps, _once(seen), terms, problems)


def _are_averaged_after(steps: Sequence[Step]) -> bool:
    """Whether parameters were moved by a step, and are the same on all ranks before the next."""
    return any(
        len(before.parts[0].by_rank) > 1 and after.state and after.state != before.state
        for before, after in pairwise(steps)
        if after.step == before.step + 1
    )


def _by_a_part(steps: Sequence[Step], promise: str | None) -> tuple[list[Step], list[TermWeights]]:
    """Judge by the parameters that keep the promise, where a hook may have scaled the others.

    Returns:
        the steps, with the part first that is judged, and the terms.
    """
    tried = []
    for part in steps[0].parts[:_MOST_PARTS]:
        turned = [_turned(step, part.parameters[0]) for step in steps]
        terms = _terms(turned, promise)
        off = any(t.names is not None for t in terms), any(t.is_constant for t in terms)
        tried.append((off, turned, terms))
        if not any(off):
            break
    least = min(off for off, _, _ in tried)
    return next((turned, terms) for off, turned, terms in tried if off == least)


def _turned(step: Step, parameter: str) -> Step:
    """Return a step with the part of a parameter first."""
    parts = sorted(step.parts, key=lambda part: parameter not in part.parameters)
    return replace(step, parts=parts)


def _problem(step: Step) -> str:
    """Say why a step's weights are not known; empty where they are."""
    if step.problem or not step.parts:
        return step.problem or "no parameter of the optimizer has a gradient"
    solved = step.parts[0].by_rank[0]
    empty = [c for c, one in enumerate(step.passes) if not any(term.count for term in one.terms)]
    unknown = [
        f"{one.rank}/{one.micro_batch}"
        for c, one in enumerate(step.passes)
        if solved.values[c] is None and c not in empty
    ]
    if not unknown or len(step.parts[0].by_rank) > 1:
        return ""
    return (
        f"gradients depend on each other, as of data that is the same, or of more passes than "
        f"parameters: the weights of rank/micro-batch {listed(unknown)} cannot be told"
    )


def _once(seen: Sequence[tuple[int, Finding]]) -> list[tuple[int, Finding]]:
    """Leave out what a later step shows in the same words."""
    first: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[int, Finding]] = {}
    for at, finding in seen:
        first.setdefault((finding.names, finding.lines), (at, finding))
    return list(first.values())


def kept_passes(step: Step) -> list[tuple[int, Pass]]:
    """Return the passes that belong to the step, with their columns.

    A pass that counts nothing here belongs elsewhere if another optimizer stepped by it, or if its
    batch was backpropagated again and counts then: a second look at one batch is no second batch,
    as where parameters are moved for a moment to find a gradient nearby.
    """
    values = step.parts[0].by_rank[0]
    counting = [
        p
        for c, p in enumerate(step.passes)
        if values.values[c] is None or abs(values.values[c] or 0) > (values.half[c] or inf)
    ]
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


def _terms(steps: Sequence[Step], promise: str | None) -> list[TermWeights]:
    """Judge every term; terms of one name that are wrong apart may be right together."""
    cells: dict[str, list[Cell]] = defaultdict(list)
    shares: dict[str, list[Cell]] = defaultdict(list)
    first: dict[str, Term] = {}
    notes: dict[str, str] = {}
    rows = [(s, c, p, term) for s in steps for c, p in kept_passes(s) for term in p.terms]
    number: dict[tuple[int, int, str], int] = defaultdict(int)
    for step, column, one, term in apart(rows):
        k = number[step.step, one.rank, term.name]
        number[step.step, one.rank, term.name] += 1
        first.setdefault(term.name, term)
        note = _why_not(term, one)
        if note:
            notes.setdefault(term.name, note)
        cells[term.name].append(_cell(step, step.parts[0], column, one, k, term))
        shares[term.name].append(_share(step, one, k, term))
    world = steps[0].world
    items = [n for n in cells if not notes.get(n)]
    judged = {
        name: _judged(first[name], cells[name], shares[name], notes.get(name, ""), world, promise,
                      is_free=len(items) > 1)
        for name in cells
    }  # fmt: skip
    if all(judged[name].is_constant for name in items):
        # One scale of all terms is a mistake; a scale of each is the script's own choice.
        again = {name: _judged(first[name], cells[name], shares[name], "", world, promise,
                               is_free=False) for name in items}  # fmt: skip
        if len({term.names for term in again.values()}) == 1:
            judged |= again
    _look_for_one_count(judged)
    pooled = _pooled(list(judged.values()), world, promise)
    return [_unclipped(term, steps, promise) for term in pooled]


def _unclipped(term: TermWeights, steps: Sequence[Step], promise: str | None) -> TermWeights:
    """Pass a term that keeps its promise but for a factor by which the script itself clips."""
    if term.names != () or any(step.clips or len(step.parts) > 1 for step in steps):
        return term
    world = steps[0].world
    cells = [cell for cell in term.cells if cell.count]
    for each in PROMISES if promise is None else (promise,):
        for formula in formulas(each):
            factors = {
                step: constant_factor([c for c in cells if c.step == step], world, formula.powers)
                for step in {cell.step for cell in cells}
            }
            known = {step: factor for step, factor in factors.items() if factor is not None}
            if len(known) == len(factors) and is_clipped_by_hand(steps, known):
                return replace(term, names=None, is_clipped=True, promises=(each,))
    return term


def _why_not(term: Term, one: Pass) -> str:
    if term.is_penalty:
        return "depends on parameters alone; it has no items"
    if term.count is None and "Compiled" in term.name:
        return "compiled into one function; weigh with TORCH_COMPILE_DISABLE=1 to see its items"
    if term.count is None:
        return "a function of its own, whose items nobody can know"
    if not term.is_linear:
        return "no weighted sum of its items' losses"
    if not term.is_even:
        return "its items do not count alike within a micro-batch: weights of the script's own"
    if one.couples:
        return f"couples the ranks ({one.couples})"
    return ""


def _cell(step: Step, part: Part, column: int, one: Pass, k: int, term: Term) -> Cell:
    solved, factor = part.by_rank[0], clipping(step).of(part)
    value, half = solved.values[column], solved.half[column]
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
    )  # fmt: skip


def _share(step: Step, one: Pass, k: int, term: Term) -> Cell:
    width = abs(term.share) * term.rounding
    low, high = np.nextafter(term.share - width, -inf), np.nextafter(term.share + width, inf)
    return Cell(one.rank, k, term.count or 0, float(low), float(high), step.step, term.samples)


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
        # Without a promise a factor is the script's own choice, and so is any known mean.
        names = least if least is not None and set(least) & _ALWAYS_WRONG else None
        if least == () and not reading.same:
            names = ()
    else:
        names = mistakes(cells, world, promise, None, origin)
        if names is not None and _is_scaled(cells, world, promise, names, is_free=is_free):
            return TermWeights(term, cells, reading, None, (promise,), is_constant=True)
    if names is not None and _is_loss_scale(reading):
        names = ("loss-scale-left-in",)
    return TermWeights(term, cells, reading, names, promises)


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
        if factor is not None and not _is_scale(factor):
            return True
    return False


def _is_scale(factor: tuple[float, float]) -> bool:
    """Whether a factor is a loss scale: a power of two that is large, or one over it."""
    low, high = sorted(map(abs, factor))
    for exponent in range(8, 33):
        if any(low <= scale <= high for scale in (2.0**exponent, 2.0**-exponent)):
            return True
    return False


def _is_loss_scale(reading: Reading) -> bool:
    simplest = reading.simplest
    if simplest is None or simplest.factor == 1:
        return False
    factor: Fraction = simplest.factor
    return factor >= _LOSS_SCALE and factor.denominator == 1 and factor.numerator.bit_count() == 1


def _look_for_one_count(judged: dict[str, TermWeights]) -> None:
    """Name a term whose weights are one over the count of another term."""
    for name, term in judged.items():
        if term.note or term.names is None or term.names:
            continue
        for other in judged.values():
            if other is term or other.note:
                continue
            totals: dict[int, int] = defaultdict(int)
            for cell in other.cells:
                totals[cell.step] += cell.count
            own = [cell for cell in term.cells if cell.count]
            low = max(cell.low * totals[cell.step] for cell in own)
            high = min(cell.high * totals[cell.step] for cell in own)
            if low > high or len(totals) < 2:
                continue
            if sum(cell.count for cell in own) > sum(totals.values()):
                # A detector's scores of all places are divided by the objects that there are.
                note = f"its items share the count of the fewer ones of {other.term.name}"
                judged[name] = replace(term, names=None, note=note)
            else:
                judged[name] = replace(term, names=("one-count-for-all-terms",))
            break


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
            if together.names is None:
                judged.append(together)
                continue
        judged += family
    return judged


def _other_parts(step: Step) -> list[Finding]:
    """Say what the other parameters' gradients are, where not all are alike."""
    seen = []
    main = step.parts[0].by_rank[0]
    clip = clipping(step)
    for part in step.parts[1:]:
        own = part.by_rank[0]
        if not agree(part.by_rank):
            continue  # experts, of which more is told elsewhere
        names = listed(part.parameters)
        known = [
            (v / clip.of(part), w / clip.of(step.parts[0]))
            for v, w in zip(own.values, main.values, strict=True)
            if v is not None and w is not None
        ]
        if known and all(v == 0 for v, _ in known):
            seen.append(Finding((), (f"no gradient: {names}",), is_fault=False))
            continue
        ratios = [v / w for v, w in known if w]
        low, high = min(ratios, default=1.0), max(ratios, default=1.0)
        halves = [h or 0.0 for h in own.half]
        widest = max(halves, default=0.0) / max((abs(w) for _, w in known), default=1.0)
        if high - low <= 2 * widest and abs(low - 1) > widest:
            line = f"{names}: every item counts {low:.4g} times what it counts for the others"
            seen.append(Finding(("parameters-scaled-apart",), (line,), is_fault=False))
        elif abs(low - 1) > widest or abs(high - 1) > widest:
            line = f"{names}: other weights than the rest, {low:.4g} to {high:.4g} times"
            seen.append(Finding(("parameters-weighed-apart",), (line,)))
    return seen
