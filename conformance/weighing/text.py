"""The verdict on a terminal: it comes first, and one fact stands on a line."""

from collections.abc import Iterator, Sequence
from math import isfinite

from conformance.weighing.formula import Cell
from conformance.weighing.launch import Ending
from conformance.weighing.mistakes import advice, words
from conformance.weighing.promises import PROMISES
from conformance.weighing.verdict import TermWeights, Verdict

_CELLS = 8  # of a term that are shown
_MEANINGS = {
    "rank_mean": "every rank counts the same",
    "sample_mean": "every item of a micro-batch counts the same",
    "step_mean": "every item of the step counts the same",
    "rank_sum": "the ranks' means are added up",
}


def lines(verdicts: Sequence[Verdict], script: str, promise: str | None) -> Iterator[str]:
    """Yield what is told of all optimizers."""
    for verdict in verdicts:
        yield from _of(verdict, script, promise, many=len(verdicts) > 1)


def _of(verdict: Verdict, script: str, promise: str | None, *, many: bool) -> Iterator[str]:
    steps = [step.step for step in verdict.steps]
    which = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
    where = f"{which} of {script} on {verdict.world} rank{'s' * (verdict.world != 1)}"
    if many:
        where += f", {verdict.optimizer}"
    sign, title = _title(verdict, promise)
    yield f"{sign} {where}: {title}"
    for at, problem in verdict.problems:
        yield f"    step {at} was not weighed: {problem}"
    for at, finding in verdict.findings:
        for name in finding.names:
            done = words(name).done
            yield f"    step {at}: {name}" + (f": {done}" if done else "")
        for line in finding.lines:
            yield f"    {'  ' if finding.names else f'step {at}: '}{line}"
    for term in verdict.terms:
        yield from _of_term(term, promise, verdict)
    for sentence in dict.fromkeys(advice((*verdict.names, *verdict.unclear))):
        yield f"    write: {sentence}"


def _title(verdict: Verdict, promise: str | None) -> tuple[str, str]:
    if verdict.is_fault:
        return "✗", " and ".join(_names(verdict)) or "no known formula"
    if not verdict.is_weighed:
        return "–", f"not-exercised: {', '.join(verdict.unclear) or 'nothing could be weighed'}"
    formulas = list(dict.fromkeys(_formula(t) for t in verdict.terms if not t.note))
    told = "; ".join(formulas)
    if promise is not None:
        return "✓", f"{promise}: {told}"
    known = any(term.promises for term in verdict.terms)
    return ("✓" if known else "•"), f"an item counts {told}"


def _names(verdict: Verdict) -> list[str]:
    """Return the mistakes; of one finding, those that cannot be told apart are joined by or."""
    told = [" or ".join(f.names) for _, f in verdict.findings if f.is_fault and f.names]
    told += [
        " or ".join(t.names) if t.names else "no known formula"
        for t in verdict.terms
        if t.names is not None
    ]
    return list(dict.fromkeys(told))


def _of_term(term: TermWeights, promise: str | None, verdict: Verdict) -> Iterator[str]:
    name = term.term.name
    if term.note:
        yield f"    {name} is not judged: {term.note}{_added_up(term)}"
        return
    shown = term.cells[:_CELLS]
    several = len({cell.step for cell in term.cells}) > 1
    for cell in shown:
        step = f"step {cell.step}, " if several else ""
        place = f"{step}rank {cell.rank}, micro-batch {cell.micro_batch}"
        yield f"    {place}: {name}, {_cell(cell, term)}"
    if len(term.cells) > len(shown):
        yield f"    and {len(term.cells) - len(shown)} more, in weights.json"
    yield f"    formula: {_formula(term)}"
    yield from _compared(term) if term.term.mass is None and not term.term.is_weighed else ()
    if promise is None and not term.names:
        if term.promises:
            kept = "; ".join(f"{p}: {_MEANINGS[p]}" for p in PROMISES if p in term.promises)
            yield f"    keeps {kept}"
        else:
            yield "    keeps no promise as it stands; --promise says what you mean"
    if term.is_constant:
        yield f"    {promise} but for a factor that is the same in all steps: the loss's own"
    if term.is_clipped:
        yield f"    {term.promises[0]} but for a clip of the script's own: steps have one norm"
    del verdict


def _formula(term: TermWeights) -> str:
    return f"{term.promises[0]}'s but for a clip" if term.is_clipped else str(term.reading)


def _added_up(term: TermWeights) -> str:
    """Say how often a term without items is in the step: once for each rank is too often."""
    own = [c for c in term.cells if c.step == term.cells[0].step]
    weights = [(c.low + c.high) / 2 for c in own]
    if not term.term.is_penalty or not all(map(isfinite, weights)):
        return ""
    passes = f"{len(own)} backward pass{'es' * (len(own) != 1)} together"
    told = f", and {_short(sum(weights))} times its value is in the step, by {passes}"
    return told + ("; ranks are added up, and a mean was promised" * term.is_of_each_rank)


def _cell(cell: Cell, term: TermWeights) -> str:
    unit = term.term.unit
    many = f"{cell.count} {unit}{'s' * (cell.count != 1)}"
    if cell.low <= 0 <= cell.high:
        return f"{many}, counts nothing" if cell.count else "no items"
    weight = (cell.low + cell.high) / 2
    each = "each counts" if cell.count != 1 else "counts"
    own = " times its class's weight" if term.term.mass is not None else ""
    own = " times its weight" if term.term.is_weighed else own
    return f"{many}, {each} {weight:.4g} = 1/{_short(1 / weight)}{own}"


def _short(value: float) -> str:
    """Return a number as short as it can be told from others.

    >>> _short(178.0000021), _short(0.3333333)
    ('178', '0.3333')
    """
    near = round(value)
    return str(near) if near and abs(value - near) < 1e-4 * abs(near) else f"{value:.4g}"


def _compared(term: TermWeights) -> Iterator[str]:
    """Compare the items that count most and least, and say what one mean would be."""
    first = term.cells[0].step
    cells = [c for c in term.cells if c.step == first and c.count]
    if not cells:
        return
    middle = {(c.low + c.high) / 2: c for c in cells}
    least, most = min(middle), max(middle)
    total, unit = sum(c.count for c in cells), term.term.unit
    if least > 0 and middle[most].low > middle[least].high:
        a, b = middle[most], middle[least]
        yield (
            f"    every {unit} of rank {a.rank}, micro-batch {a.micro_batch} counts "
            f"{most / least:.4g} times one of rank {b.rank}, micro-batch {b.micro_batch}; one mean "
            f"over all {total} {unit}s would be 1/{total}"
        )
    elif term.names is not None and most and not middle[most].low <= 1 / total <= middle[most].high:
        yield (
            f"    every {unit} counts alike, {most * total:.6g} times its share of one mean over "
            f"all {total}, which would be 1/{total}"
        )


def why_nothing(ending: Ending, verdicts: Sequence[Verdict], script: str) -> Iterator[str]:
    """Yield how a script ended, where that is why less was weighed than was asked for."""
    for rank, words_ in enumerate(ending.ranks):
        for problem in dict.fromkeys(words_["problems"]):
            yield f"    weighing itself failed on rank {rank}: {problem}"
    if ending.is_late:
        yield "– no optimizer step came in time: the script was ended"
        yield from (f"    {place}" for place in ending.stacks)
    elif ending.is_interrupted:
        yield f"– interrupted; {_weighed(verdicts)} before"
    elif ending.status:
        yield (
            f"– {script} ended by itself with exit status {ending.status}; "
            f"{_weighed(verdicts)} before"
        )
    elif not verdicts:
        yield f"– not-exercised: {script} ended without a step of a torch optimizer in its process"
        if any(words_["children"] for words_ in ending.ranks):
            yield "    it started processes of its own: let torchrun start them, or use --ranks W"


def _weighed(verdicts: Sequence[Verdict]) -> str:
    count = sum(len(verdict.steps) - len(verdict.problems) for verdict in verdicts)
    return (
        f"{count} step{'s were' if count != 1 else ' was'} weighed"
        if count
        else "nothing was weighed"
    )
