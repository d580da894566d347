"""The verdict on weighed steps: one for each optimizer."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from conformance.weighing.clips import clipping
from conformance.weighing.findings import Finding, listed
from conformance.weighing.gradients import agree, findings
from conformance.weighing.records import NOT_COME, Step
from conformance.weighing.terms import kept_passes, term_weights
from conformance.weighing.verdict import TermWeights, Verdict

_COPIES = Finding(
    ("moved-after-wrapping",),
    (("gradients went to tensors of just the shapes of the optimizer's parameters, none of which "
     "it holds"),),
)  # fmt: skip
_ZEROED = "its first passes count nothing, as where a step was skipped and gradients were zeroed"
_ONE_WINDOW = (
    "one step is made of several passes of which the last alone count, the other of as many as "
    "count: weigh more steps to tell a step that was skipped from gradients zeroed too often"
)
_APART = (
    "some parameters have a factor of 2 or 1/2, as of a hook, or W or K too many or too few: "
    "another number of ranks or micro-batches tells"
)
_MOST_PARTS = 8  # that are tried, the largest first


def judge(steps: Sequence[Step], promise: str | None) -> list[Verdict]:
    """Return a verdict for each optimizer that stepped, in the order of first steps."""
    by_optimizer: dict[str, list[Step]] = defaultdict(list)
    looks = {step.optimizer: step for step in steps if step.is_look}
    for step in steps:
        if not step.is_look:
            by_optimizer[step.optimizer].append(step)
    return [
        _verdict(
            name, own, looks.get(name), promise, [each for each in steps if each.optimizer != name]
        )
        for name, own in by_optimizer.items()
    ]


def _verdict(
    optimizer: str,
    steps: Sequence[Step],
    look: Step | None,
    promise: str | None,
    others: Sequence[Step],
) -> Verdict:
    problems = [(step.step, problem) for step in steps if (problem := _problem(step))]
    known = [step for step in steps if step.step not in dict(problems)]
    zeroed, is_sure = _zeroed(known)
    problems += [(at, _ZEROED) for at in zeroed]
    unweighed = {at for at, _ in problems}
    weighed = [step for step in steps if step.step not in unweighed]
    # Another optimizer that holds some may take its first step right after this one's.
    unheld = weighed[-1].unheld if weighed else []
    weighed = [replace(s, unheld=[n for n in s.unheld if n in unheld]) for s in weighed]
    seen = [(step.step, finding) for step in weighed for finding in findings(step, others)]
    averaged = _averaged([*weighed, *([look] if look else [])])
    if averaged:
        seen = [(at, averaged if "never-synchronised" in f.names else f) for at, f in seen]
    elif look:
        line = f"parameters were not the same on all ranks again before step {look.step}"
        seen = [
            (at, replace(f, lines=(*f.lines, line)) if "never-synchronised" in f.names else f)
            for at, f in seen
        ]
    seen += [(step.step, _COPIES) for step in steps if step.problem and step.is_of_copies]
    seen += [(step.step, _missed(step)) for step in steps if step.missed_by]
    unclear = {at for at, finding in seen if finding.is_fault or finding.is_unclear}
    clear = [step for step in weighed if step.step not in unclear]
    terms: list[TermWeights] = []
    if clear:
        clear, terms = _by_a_part(clear, promise, others)
        unlike = [(step.step, finding) for step in clear for finding in _other_parts(step)]
        if any(finding.is_unclear for _, finding in unlike):
            terms = [replace(t, note=t.note or _APART) if not t.names else t for t in terms]
        if any("parameters-scaled-apart" in finding.names for _, finding in unlike):
            note = "every parameter has a factor of its own in each step"
            terms = [replace(t, names=None, note=note) if t.names == () else t for t in terms]
        seen += unlike
    if any(problem == NOT_COME for _, problem in problems):
        terms = [replace(t, note=t.note or NOT_COME) if not t.names else t for t in terms]
    if zeroed and not is_sure:
        terms = [replace(t, note=t.note or _ONE_WINDOW) if not t.names else t for t in terms]
    return Verdict(optimizer, promise, steps[0].world, steps, _once(seen), terms, problems)


def _missed(step: Step) -> Finding:
    line = (
        f"rank {listed(step.missed_by)} began another backward pass without taking this step, and "
        "waited there for the others"
    )
    return Finding(("step-skipped-by-one-rank",), (line,))


def _zeroed(steps: Sequence[Step]) -> tuple[list[int], bool]:
    """Return the steps whose first passes count nothing, and of whose rest others are made.

    So it is where a step was skipped, after an overflow say, and its gradients were zeroed. Where
    every step has such passes, or one with none is longer, they are a mistake.

    Returns:
        the steps, and whether more than one other step speaks for it.
    """
    leading: dict[int, dict[int, tuple[int, int]]] = {}
    for step in steps:
        solved = step.parts[0].by_rank[0]
        by_rank: dict[int, list[bool]] = defaultdict(list)
        for column, one in kept_passes(step):
            by_rank[one.rank].append(solved.may_count(column))
        leading[step.step] = {
            rank: (own.index(True) if True in own else len(own), sum(own))
            for rank, own in by_rank.items()
        }
    whole = {at: own for at, own in leading.items() if not any(zero for zero, _ in own.values())}
    lengths = [{rank: length for rank, (_, length) in own.items()} for own in whole.values()]
    zeroed = [
        at
        for at, own in leading.items()
        if at not in whole and {rank: length for rank, (_, length) in own.items()} in lengths
    ]
    return zeroed, len(whole) > 1


def _averaged(steps: Sequence[Step]) -> Finding | None:
    """Say that parameters are averaged, where ranks step apart and are the same again later."""
    apart = [step for step in steps if step.parts and len(step.parts[0].by_rank) > 1]
    for step in steps:
        before = [each for each in apart if each.step < step.step]
        if before and step.state and step.state not in {each.state for each in before}:
            line = (
                "every rank steps with its own gradient, and all have the same parameters again "
                f"before step {step.step}: it is parameters that are averaged"
            )
            return Finding((), (line,), is_fault=False, is_unclear=True)
    return None


def _by_a_part(
    steps: Sequence[Step], promise: str | None, others: Sequence[Step]
) -> tuple[list[Step], list[TermWeights]]:
    """Judge by the parameters that keep the promise, where a hook may have scaled the others.

    Returns:
        the steps, with the part first that is judged, and the terms.
    """
    tried = []
    for part in steps[0].parts[:_MOST_PARTS]:
        turned = [_turned(step, part.parameters[0]) for step in steps]
        terms = term_weights(turned, promise, others)
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
    empty = [
        c
        for c, one in enumerate(step.passes)
        if not any(term.count and term.share for term in one.terms)
    ]
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
            (v / clip.of(part, p.micro_batch), w / clip.of(step.parts[0], p.micro_batch))
            for p, v, w in zip(step.passes, own.values, main.values, strict=False)
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
            seen.append(_scaled_apart(line, low, widest, step))
        elif abs(low - 1) > widest or abs(high - 1) > widest:
            line = f"{names}: other weights than the rest, {low:.4g} to {high:.4g} times"
            seen.append(Finding(("parameters-weighed-apart",), (line,)))
    return seen


def _scaled_apart(line: str, factor: float, off: float, step: Step) -> Finding:
    """Name a factor that some parameters have beside the others, where it is W or K, or one over.

    Any other is the script's own; so may 2 and 1/2 be, which hooks are made of.
    """
    lengths = {sum(p.rank == rank for p in step.passes) for rank in range(step.world)}
    sizes = {"W": step.world, "K": max(lengths, default=1)}
    names = {"W": ("not-divided", "divided-twice"), "K": ("accumulation-unscaled",) * 2}
    found = [
        names[symbol][wanted < 1]
        for symbol, size in sizes.items()
        for wanted in (size, 1 / size)
        if size > 1 and abs(factor / wanted - 1) <= 2 * off / min(factor, 1.0)
    ]
    if found and not any(abs(factor - half) <= 2 * off for half in (2.0, 0.5)):
        return Finding(tuple(found), (line,))
    return Finding(("parameters-scaled-apart",), (line,), is_fault=False, is_unclear=bool(found))
