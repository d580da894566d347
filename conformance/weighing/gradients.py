"""What a step's solved gradients show by themselves, before any promise is asked about."""

import re
from collections.abc import Iterator, Sequence

from conformance.weighing.clips import of_clips
from conformance.weighing.findings import Finding, listed
from conformance.weighing.records import Part, Pass, Solved, Step

_TO_OTHERS = re.compile("all_?to_?all", re.IGNORECASE)
_SHOWN = 4  # ranks that a finding shows the weights of


def findings(step: Step, others: Sequence[Step] = ()) -> list[Finding]:
    """Return what is wrong, or worth knowing, about the gradients of a step.

    Args:
        step: of one optimizer.
        others: steps of other optimizers.
    """
    seen: list[Finding] = []
    if len(step.parts) > 1 and _are_all_own(step):
        line = "all parameters: every rank steps with its own gradient"
        seen.append(Finding(("never-synchronised",), (line,)))
    else:
        for part in step.parts:
            seen += _of_part(step, part)
    seen += of_clips(step, others)
    if step.unheld:
        names = listed([f"{name}" for name in step.unheld])
        seen.append(Finding((), (f"no optimizer that stepped holds {names}",), is_fault=False))
    seen += _same_batches(step)
    return seen


def _of_part(step: Step, part: Part) -> Iterator[Finding]:
    whole = len(step.parts) == 1
    if len(part.by_rank) > 1 and not agree(part.by_rank):
        yield _of_disagreement(step, part, whole=whole)
        return
    solved = part.by_rank[0]
    for at, rank in enumerate(step.stale, len(step.passes)):
        if solved.counts(at):
            times = f"{solved.values[at]:.4g} times"
            yield Finding(
                ("stale-gradient",),
                (f"what rank {rank} had in .grad before this window counts {times}",),
            )
            break
    if not solved.is_explained:
        # Noise and a decay of weights are added to gradients on purpose: nobody is accused.
        yield Finding(
            ("no-weighted-sum",),
            (
                (
                    f"{_of(part, whole=whole)}: {solved.residual:.2g} of the gradient's norm is no "
                    f"weighted sum of the passes; rounding can make {solved.rounding:.2g}"
                ),
            ),
            is_fault=False,
            is_unclear=True,
        )
    elif solved.narrow:
        name = solved.narrow.rstrip("?")
        sure = "went" if not solved.narrow.endswith("?") else "are as far off as if they went"
        line = f"gradients {sure} through {name}: {solved.residual:.2g} of the norm is left over"
        yield Finding((), (line,), is_fault=False)


def is_apart(step: Step) -> bool:
    """Whether every rank steps with its own gradient alone."""
    return any("never-synchronised" in finding.names for finding in findings(step))


def agree(by_rank: Sequence[Solved]) -> bool:
    """Whether ranks that differ in bits may have the same weights."""
    for values in zip(*(_ends(solved) for solved in by_rank), strict=True):
        if max(low for low, _ in values) > min(high for _, high in values):
            return False
    return True


def _ends(solved: Solved) -> list[tuple[float, float]]:
    infinite = float("inf")
    return [
        (-infinite, infinite) if v is None or h is None else (v - h, v + h)
        for v, h in zip(solved.values, solved.half, strict=True)
    ]


def _are_all_own(step: Step) -> bool:
    """Whether some parameters hold each rank's own gradient, and of the others nobody can tell."""
    own = [p for p in step.parts if not agree(p.by_rank) and _is_own(step, p)]
    solved = [solved for part in step.parts if part not in own for solved in part.by_rank]
    return bool(own) and not any(
        each.is_explained and None not in each.values and not each.alike for each in solved
    )


def _is_own(step: Step, part: Part) -> bool:
    """Whether every rank's gradient is of its own passes alone."""
    own_alone, _ = _whose(step, part)
    counting = [c for c in range(len(step.passes)) if any(s.counts(c) for s in part.by_rank)]
    return 0 < len(own_alone) == len(counting)


def _whose(step: Step, part: Part) -> tuple[list[Pass], list[Pass]]:
    """Return the passes that count on their own rank alone, and those that count on all."""
    own_alone, everywhere = [], []
    for column, one in enumerate(step.passes):
        who = [rank for rank, solved in enumerate(part.by_rank) if solved.counts(column)]
        if who == [one.rank]:
            own_alone.append(one)
        elif len(who) == step.world:
            everywhere.append(one)
    return own_alone, everywhere


def _of_disagreement(step: Step, part: Part, *, whole: bool) -> Finding:
    """Name ranks that step with different gradients."""
    own_alone, everywhere = _whose(step, part)
    where = _of(part, whole=whole)
    sent = [p.couples for p in step.passes if _TO_OTHERS.search(p.couples)]
    if sent and not whole:
        line = f"{where}: own gradients on each rank, to which {sent[0]} sends items, as to experts"
        return Finding((), (line,), is_fault=False)
    if _is_own(step, part):
        name = "never-synchronised" if whole else "partly-synchronised"
        return Finding((name,), (f"{where}: every rank steps with its own gradient",))
    shared = {p.micro_batch for p in everywhere} & {p.micro_batch for p in own_alone}
    if own_alone and everywhere and not shared:
        early = max(p.micro_batch for p in everywhere) < max(p.micro_batch for p in own_alone)
        name = "synchronised-too-early" if early else "partly-synchronised"
        return Finding(
            (name,),
            (
                (
                    f"{where}: micro-batch {_micro_batches(everywhere)} counts on all ranks, "
                    f"micro-batch {_micro_batches(own_alone)} on its own rank alone"
                ),
            ),
        )
    idle = [rank for rank, solved in enumerate(part.by_rank) if not solved.norm]
    if whole and idle and agree([solved for solved in part.by_rank if solved.norm]):
        line = f"rank {listed(idle)} steps without a gradient, and the others with theirs"
        return Finding(("step-skipped-by-one-rank",), (line,))
    lines = [f"{where}: ranks step with different gradients"]
    for rank, solved in enumerate(part.by_rank[:_SHOWN]):
        weights = ", ".join(
            f"{p.rank}/{p.micro_batch} {_number(solved.values[c])}"
            for c, p in enumerate(step.passes)
        )
        lines.append(f"on rank {rank} the loss of rank/micro-batch counts: {weights}")
    return Finding(("ranks-disagree",), tuple(lines))


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _micro_batches(passes: Sequence[object]) -> str:
    return listed(sorted({getattr(p, "micro_batch") for p in passes}))  # noqa: B009


def _of(part: Part, *, whole: bool) -> str:
    return "all parameters" if whole else listed(part.parameters)


def _same_batches(step: Step) -> Iterator[Finding]:
    """Say which ranks were given the same targets, and what cannot be told apart."""
    by_digest: dict[str, set[int]] = {}
    for one in step.passes:
        if one.terms and one.digest:
            by_digest.setdefault(one.digest, set()).add(one.rank)
    columns = {
        tuple(step.passes[c].rank for c in group if c < len(step.passes))
        for part in step.parts
        for solved in part.by_rank
        for group in solved.alike
    }
    for ranks in sorted(columns):
        if len(set(ranks)) > 1:
            line = (
                f"ranks {listed(sorted(set(ranks)))} have the same gradient, as of the same data: "
                "only the sum of their weights is known (is there a DistributedSampler?)"
            )
            yield Finding((), (line,), is_fault=False)
