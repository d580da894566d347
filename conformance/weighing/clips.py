"""What clipping did to a step: factors that its weights have, and what is wrong with them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, sqrt

from conformance.weighing.findings import Finding
from conformance.weighing.records import Clip, Part, Step

_EPSILON = 1e-6  # which torch adds to a norm before it divides by it


@dataclass(frozen=True)
class Clipping:
    """What the clips of a step did, where they came once its gradient was whole.

    Attributes:
        factor: of the parameters that all clips were given.
        others: of all parameters by name, where some clips were given a part of them.
        finding: what is wrong.
    """

    factor: float = 1.0
    others: Mapping[str, float] = field(default_factory=dict)
    finding: Finding | None = None

    def of(self, part: Part) -> float:
        """Return the factor that a part's weights have."""
        return self.others.get(part.parameters[0], 1.0) if self.others else self.factor


def clipping(step: Step) -> Clipping:
    """Return the factors of the clips at the window's end, and what they show."""
    active = _active(step)
    if not active:
        return Clipping()
    passes = {rank: sum(p.rank == rank for p in step.passes) for rank in range(step.world)}
    early = [c for c in active if c.after < passes[c.rank]]
    if early:
        first = early[0]
        line = (
            f"clipped to {first.limit:g} after {first.after} of {passes[first.rank]} micro-batches"
        )
        return Clipping(finding=Finding(("clipped-before-averaging",), (line,)))
    by_rank = [[c for c in step.clips if c.rank == rank] for rank in range(step.world)]
    for turn in zip(*(clips for clips in by_rank if clips), strict=False):
        norms = [clip.norm for clip in turn]
        if max(norms) - min(norms) > 1e-5 * max(norms):
            told = ", ".join(f"{norm:.4g}" for norm in norms)
            line = f"each rank clips by a norm of its own: {told}"
            return Clipping(finding=Finding(("clipped-before-averaging",), (line,)))
    return _of_calls([c for c in active if c.rank == active[0].rank], step)


def _active(step: Step) -> list[Clip]:
    """Return the calls that changed something; one with an infinite limit only asks for a norm."""
    return [clip for clip in step.clips if clip.norm + _EPSILON > clip.limit]


def _of_calls(clips: Sequence[Clip], step: Step) -> Clipping:
    """Return the product of the factors that one rank's calls have, parameter by parameter."""
    factors: dict[str, float] = defaultdict(lambda: 1.0)
    common = 1.0
    for clip in clips:
        factor = min(1.0, clip.limit / (clip.norm + _EPSILON))
        if clip.parameters is None:
            common *= factor
        for name in clip.parameters or ():
            factors[name] *= factor
    if not factors:
        return Clipping(common)
    names = [name for part in step.parts for name in part.parameters]
    return Clipping(common, {name: factors[name] * common for name in names})


def of_clips(step: Step) -> Iterator[Finding]:
    """Yield what a step's clips show."""
    clip = clipping(step)
    active = _active(step)
    if clip.finding is not None:
        yield clip.finding
    elif active:
        norms = (part.by_rank[0].norm / clip.of(part) for part in step.parts if clip.of(part))
        norm = sqrt(sum(each**2 for each in norms))
        said = active[0]
        ratio = said.norm / norm if norm else 1.0
        if said.is_of_all and isfinite(ratio) and _is_wrong(ratio, _off(step, said), said, step):
            line = (
                f"the clip went by a norm of {said.norm:.4g}, {ratio:.4g} times that of the "
                f"gradient, {norm:.4g}"
            )
            yield Finding(("clipped-by-another-norm",), (line,))
        else:
            line = f"clipped: norm {said.norm:.4g} to {said.limit:g}; weights are those before it"
            yield Finding((), (line,), is_fault=False)


def _is_wrong(ratio: float, off: float, clip: Clip, step: Step) -> bool:
    """Whether a clip's norm is wrong; of a norm of no known kind, whether replicas are in it."""
    if clip.is_two_norm:
        return abs(ratio - 1) > off
    copies = round(ratio**2)
    return 2 <= copies <= step.world and abs(ratio**2 / copies - 1) <= 2 * off


def _off(step: Step, clip: Clip) -> float:
    """Return how far two norms of one gradient may be apart."""
    elements = sum(part.elements for part in step.parts)
    return _norm_rounding(elements) + _EPSILON / max(clip.norm, _EPSILON)


def _norm_rounding(elements: int) -> float:
    """Return the relative error of a norm: a sum of so many squares in float32."""
    return 2.0**-24 * (elements**0.5 + 64)


def is_clipped_by_hand(steps: Sequence[Step], factors: Mapping[int, tuple[float, float]]) -> bool:
    """Whether the script clips by itself: some gradients have one norm, the others less.

    Args:
        steps: all weighed steps.
        factors: of each step the interval of the factor between its weights and a promise's.
    """
    norms = {s.step: sqrt(sum(part.by_rank[0].norm ** 2 for part in s.parts)) for s in steps}
    clipped = [norms[step] for step, (_, high) in factors.items() if high < 1]
    others = [norms[step] for step, (low, high) in factors.items() if low <= 1 <= high]
    if len(clipped) + len(others) < len(factors) or len(clipped) < 2:
        return False
    off = _norm_rounding(sum(part.elements for part in steps[0].parts)) + _EPSILON / min(clipped)
    limit = max(clipped)
    return limit - min(clipped) <= 2 * off * limit and all(n <= limit * (1 + off) for n in others)
