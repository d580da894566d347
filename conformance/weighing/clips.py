"""What clipping did to a step: factors that its weights have, and what is wrong with them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

from conformance.weighing.findings import Finding
from conformance.weighing.records import Clip, Part, Step
from conformance.weighing.solve import norm_rounding

_EPSILON = 1e-6  # which torch adds to a norm before it divides by it


@dataclass(frozen=True)
class _Call:
    """A call that changed something: its factor, what it was given, and what came to that.

    `None` stands for all parameters of the optimizer.
    """

    factor: float
    parameters: frozenset[str] | None
    reached: frozenset[int]


@dataclass(frozen=True)
class Clipping:
    """What the clips of a step did, where they came once its gradient was whole.

    Attributes:
        calls: of clip_grad_norm_.
        finding: what is wrong.
    """

    calls: Sequence[_Call] = ()
    finding: Finding | None = None

    def of(self, part: Part, micro_batch: int | None = None) -> float:
        """Return the factor that a part's weights have; those of one micro-batch where it is given.

        Parameters of one part may be clipped apart if no micro-batch reaches two that are.
        """
        factor = 1.0
        for call in self.calls:
            if micro_batch is None:
                is_clipped = call.parameters is None or part.parameters[0] in call.parameters
            else:
                is_clipped = micro_batch in call.reached and (
                    call.parameters is None or not call.parameters.isdisjoint(part.parameters)
                )
            factor *= call.factor if is_clipped else 1.0
        return factor


def clipping(step: Step) -> Clipping:
    """Return the factors of the clips at the window's end, and what they show."""
    active = _active(step)
    if not active:
        return Clipping()
    passes = {rank: sum(p.rank == rank for p in step.passes) for rank in range(step.world)}
    early = [c for c in active if max(_reached(c, step), default=-1) >= c.after]
    if early:
        first = early[0]
        line = (
            f"clipped to {first.limit:g} after {first.after} of {passes[first.rank]} micro-batches"
        )
        return Clipping(finding=Finding(("clipped-before-averaging",), (line,)))
    clips = [clip for clip in step.clips if not _is_of_nothing(clip, step)]
    by_rank = [[c for c in clips if c.rank == rank] for rank in range(step.world)]
    for turn in zip(*(clips for clips in by_rank if clips), strict=False):
        norms = [clip.norm for clip in turn]
        if max(norms) - min(norms) > 1e-5 * max(norms):
            told = ", ".join(f"{norm:.4g}" for norm in norms)
            line = f"each rank clips by a norm of its own: {told}"
            return Clipping(finding=Finding(("clipped-before-averaging",), (line,)))
    return Clipping([_call(c, step) for c in active if c.rank == active[0].rank])


def _active(step: Step) -> list[Clip]:
    """Return the calls that changed something; one with an infinite limit only asks for a norm."""
    return [
        clip
        for clip in step.clips
        if clip.norm + _EPSILON > clip.limit and not _is_of_nothing(clip, step)
    ]


def _reached(clip: Clip, step: Step) -> Sequence[int]:
    """Return the micro-batches that bring something to what a clip was given."""
    every = [p.micro_batch for p in step.passes if p.rank == clip.rank]
    return every if clip.reached is None else clip.reached


def _is_of_nothing(clip: Clip, step: Step) -> bool:
    """Whether nothing that was clipped is in the step: gradients were zeroed in between."""
    before = {k for k in _reached(clip, step) if k < clip.after}
    columns = [
        c for c, p in enumerate(step.passes) if p.rank == clip.rank and p.micro_batch in before
    ]
    return not any(solved.may_count(c) for c in columns for p in step.parts for solved in p.by_rank)


def _call(clip: Clip, step: Step) -> _Call:
    return _Call(
        min(1.0, clip.limit / (clip.norm + _EPSILON)),
        None if clip.parameters is None else frozenset(clip.parameters),
        frozenset(_reached(clip, step)),
    )


def of_clips(step: Step, others: Sequence[Step] = ()) -> Iterator[Finding]:
    """Yield what a step's clips show.

    Args:
        step: of one optimizer.
        others: steps of other optimizers, whose gradients may be clipped with its own.
    """
    clip = clipping(step)
    active = _active(step)
    if clip.finding is not None:
        yield clip.finding
    elif active:
        said = active[0]
        together = _clipped_together(step, said, others)
        norm = sqrt(sum(_squared_before(each) for each in together))
        ratio = said.norm / norm if norm else 1.0
        if together and isfinite(ratio) and _is_wrong(ratio, _off(together, said), said, step):
            of = f" in {len(together)} optimizers" if len(together) > 1 else ""
            line = (
                f"the clip went by a norm of {said.norm:.4g}, {ratio:.4g} times that of the "
                f"gradient{of}, {norm:.4g}"
            )
            yield Finding(("clipped-by-another-norm",), (line,))
        else:
            line = f"clipped: norm {said.norm:.4g} to {said.limit:g}; weights are those before it"
            yield Finding((), (line,), is_fault=False)


def _squared_before(step: Step) -> float:
    """Return the squared norm of a step's gradient before it was clipped."""
    clip = clipping(step)
    factors = [(part.by_rank[0].norm, clip.of(part)) for part in step.parts]
    return sum((norm / factor) ** 2 for norm, factor in factors if factor)


def _clipped_together(step: Step, clip: Clip, others: Sequence[Step]) -> list[Step]:
    """Return the steps that hold all of what a clip was given; none where somebody else has some.

    One call for several optimizers is known by its norm.
    """
    if clip.is_of_all:
        return [step]
    together, own = [step], clip.own
    for other in others:
        for same in other.clips:
            is_it = (same.rank, same.norm, same.limit, same.given) == (
                clip.rank, clip.norm, clip.limit, clip.given,
            )  # fmt: skip
            if is_it and other.parts and not _is_of_nothing(same, other):
                together.append(other)
                own += same.own
                break
    is_whole = 0 < own == clip.given and all(
        one.parameters is None for one in _same(together, clip)
    )
    return together if is_whole else []


def _same(steps: Sequence[Step], clip: Clip) -> Iterator[Clip]:
    for step in steps:
        yield from (c for c in step.clips if (c.rank, c.norm) == (clip.rank, clip.norm))


def _is_wrong(ratio: float, off: float, clip: Clip, step: Step) -> bool:
    """Whether a clip's norm is wrong; of a norm of no known kind, whether replicas are in it."""
    if clip.is_two_norm:
        return abs(ratio - 1) > off
    copies = round(ratio**2)
    return 2 <= copies <= step.world and abs(ratio**2 / copies - 1) <= 2 * off


def _off(steps: Sequence[Step], clip: Clip) -> float:
    """Return how far two norms of one gradient may be apart."""
    elements = sum(part.elements for step in steps for part in step.parts)
    return norm_rounding(elements) + _EPSILON / max(clip.norm, _EPSILON)


def is_clipped_by_hand(
    steps: Sequence[Step],
    factors: Mapping[int, tuple[float, float]],
    others: Sequence[Step] = (),
) -> bool | None:
    """Whether the script clips by itself: some gradients have one norm, the others less.

    Args:
        steps: all weighed steps.
        factors: of each step the interval of the factor between its weights and a promise's.
        others: steps of other optimizers, whose gradients may be clipped by one norm with these.

    Returns:
        None where a single step may be clipped, and nothing speaks against it.
    """
    together = [step for step in others if step.step in factors and step.parts]
    found: list[bool | None] = [_have_one_norm(steps, factors)]
    if {step.step for step in together} == set(factors):
        found.append(_have_one_norm([*steps, *together], factors))
    return True if True in found else None if None in found else False


@dataclass(frozen=True)
class _Brought:
    """What a pass brings to a step: its norm, how far that may be off, and the pass's weight."""

    step: int
    norm: float
    off: float
    low: float
    high: float


def is_clipped_early(steps: Sequence[Step]) -> bool:
    """Whether the script itself clips what each pass brings: the largest have one norm.

    Those that are smaller count as much as any; of those that are clipped two count unlike.
    """
    brought = []
    for step in steps:
        (part,) = step.parts
        solved = part.by_rank[0]
        passes = list(zip(solved.values, solved.half, part.norms, strict=False))
        for value, half, norm in passes[: len(step.passes)]:
            if value is None or half is None or value <= half or not norm:
                return False
            off = half / value + norm_rounding(part.elements) + _EPSILON / norm
            brought.append(_Brought(step.step, value * norm, off, value - half, value + half))
    least = max(each.norm for each in brought) * (1 - 2 * max(each.off for each in brought))
    clipped = [each for each in brought if each.norm >= least]
    smaller = [each for each in brought if each.norm < least]
    largest = max(each.low for each in brought)
    # One pass in each step is the whole gradient, of which a clip is right.
    count_unlike = any(
        one.step == other.step and one.low > other.high for one in clipped for other in clipped
    )
    return count_unlike and all(each.high >= largest for each in smaller)


def _have_one_norm(
    steps: Sequence[Step], factors: Mapping[int, tuple[float, float]]
) -> bool | None:
    squares: dict[int, float] = defaultdict(float)
    elements: dict[int, int] = defaultdict(int)
    for step in steps:
        squares[step.step] += sum(part.by_rank[0].norm ** 2 for part in step.parts)
        elements[step.step] += sum(part.elements for part in step.parts)
    norms = {at: sqrt(squared) for at, squared in squares.items()}
    clipped = [norms[step] for step, (_, high) in factors.items() if high < 1]
    others = [norms[step] for step, (low, high) in factors.items() if low <= 1 <= high]
    if len(clipped) + len(others) < len(factors) or not clipped or not min(clipped):
        return False
    off = norm_rounding(max(elements.values())) + _EPSILON / min(clipped)
    limit = max(clipped)
    if any(norm > limit * (1 + off) for norm in others) or min(clipped) < limit * (1 - 2 * off):
        return False
    return True if len(clipped) > 1 else None
