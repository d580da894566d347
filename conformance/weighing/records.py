"""What is known of one optimizer step once its system is solved, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

SUMMED = "features gathered through autograd"  # whose gradients of all ranks' losses are added up
HALF = 0.5  # that some write before squares, or before each item, as the loss's own
NOT_COME = "another rank did not come to this step: does every rank take the same steps?"


@dataclass(frozen=True)
class Term:
    """A term of a backpropagated loss, and what the loss gives to each of its items.

    Attributes:
        name: the loss function, as people call it.
        count: its items: tokens or samples that are not masked; None where nobody can know.
        share: the derivative of the backpropagated scalar with respect to one item.
        rounding: how far the share may be off, relative to it, by the loss's own arithmetic.
        unit: token, sample or element.
        samples: sequences; None where not known or the same as the items.
        places: items and padding; None where not known.
        labels: items before a shift of the labels; None where nothing is shifted.
        is_mean: whether it is a mean, and not a sum that the script divides.
        is_even: whether all items have this share; else it is their mean.
        is_linear: whether the scalar is a weighted sum of its items' losses.
        is_penalty: whether it depends on parameters alone.
        shares: each item's share where they are not even, up to a limit.
        target: the number that all targets are; None where they differ, or are classes.
        batch: which of several micro-batches in one backward pass; None where it has one.
        digest: of that micro-batch's targets.
        is_of_loop: whether these are sure to be micro-batches, and no tasks that were written out.
        own_scale: a factor that such a loss often has: 1/2 of squares, T² beside a softmax over T.
        is_halved_itself: whether the 1/2 is before each item, and not before what adds them up.
        is_of_soft_targets: whether items are rows of which the script multiplies every class.
        mass: what the items weigh together, where a loss function was given weights of classes; the
            share is then that of a weight of 1.
        plain: the share of an item of weight 1, where the script multiplies each by a weight of its
            own and nothing else is uneven.
        weighs: what the items weigh together by these; None where some are less than 0.
        is_weighed: whether `share` and `mass` are those of weights of the script's own.
    """

    name: str
    count: int | None
    share: float
    rounding: float = 0.0
    unit: str = "element"
    samples: int | None = None
    places: int | None = None
    labels: int | None = None
    is_mean: bool = False
    is_even: bool = True
    is_linear: bool = True
    is_penalty: bool = False
    shares: Sequence[float] = ()
    target: float | None = None
    batch: int | None = None
    digest: str = ""
    is_of_loop: bool = False
    own_scale: float = 1.0
    is_halved_itself: bool = False
    is_of_soft_targets: bool = False
    mass: float | None = None
    plain: float | None = None
    weighs: float | None = None
    is_weighed: bool = False


@dataclass(frozen=True)
class Pass:
    """One backward pass of one rank.

    Attributes:
        digest: of the targets, by which one knows a batch again.
        is_spent: whether it counted in another optimizer's step before.
        couples: what in its graph joins the ranks: a gather, synchronised batch statistics.
        state: a digest of the parameters as they were.
        forward: the first pass of its rank that ran through nodes of the same forward pass.
    """

    rank: int
    micro_batch: int
    terms: Sequence[Term]
    digest: str = ""
    is_spent: bool = False
    couples: str = ""
    state: str = ""
    forward: int | None = None


@dataclass(frozen=True)
class Solved:
    """The weights of a rank's gradient: of the passes, then of what was left in .grad before."""

    values: Sequence[float | None]
    half: Sequence[float | None]
    residual: float
    rounding: float
    condition: float | None
    norm: float
    alike: Sequence[Sequence[int]] = ()
    narrow: str = ""

    @property
    def is_explained(self) -> bool:
        """Whether the gradient is a weighted sum, but for rounding."""
        return self.residual <= self.rounding

    def counts(self, column: int) -> bool:
        """Whether a column is sure to count."""
        value, half = self.values[column], self.half[column]
        return value is not None and half is not None and abs(value) > half

    def may_count(self, column: int) -> bool:
        """Whether a column counts, or has a weight that cannot be told."""
        return self.values[column] is None or self.counts(column)


@dataclass(frozen=True)
class Part:
    """Parameters that share their weights; one solution, or one for each rank if ranks differ.

    Attributes:
        norms: of what each pass brings to them.
    """

    parameters: Sequence[str]
    elements: int
    by_rank: Sequence[Solved]
    norms: Sequence[float] = ()


@dataclass(frozen=True)
class Clip:
    """A call of clip_grad_norm_.

    Attributes:
        limit: the norm that it clips to.
        norm: the norm that it found.
        after: how many of the window's passes came before it.
        is_of_all: whether it was given the optimizer's parameters, and no others.
        is_two_norm: whether the norm is the 2-norm; False where it is another, or not known.
        parameters: which of the optimizer's it was given, where not all.
        reached: the micro-batches that bring something to what it was given; None stands for all.
        given: how many tensors with a gradient it was given.
        own: how many of these the optimizer holds.
    """

    rank: int
    limit: float
    norm: float
    after: int
    is_of_all: bool = True
    parameters: Sequence[str] | None = None
    is_two_norm: bool = True
    reached: Sequence[int] | None = None
    given: int = 0
    own: int = 0


@dataclass(frozen=True)
class Step:
    """One step of one optimizer, solved.

    Attributes:
        state: a digest of the parameters before it; empty where they differ between ranks.
        missed_by: ranks that went past it without taking it.
        is_look: whether it was not weighed, and only parameters were compared between ranks.
    """

    step: int
    optimizer: str
    world: int
    passes: Sequence[Pass]
    parts: Sequence[Part]
    stale: Sequence[int] = ()
    clips: Sequence[Clip] = ()
    unheld: Sequence[str] = ()
    notes: Sequence[str] = ()
    seconds: float = 0.0
    problem: str = ""
    is_of_copies: bool = False
    state: str = ""
    missed_by: Sequence[int] = ()
    is_look: bool = False

    @property
    def shares_weights(self) -> bool:
        """Whether passes have equal gradients, so that only the sum of their weights is known."""
        return any(
            len([c for c in group if c < len(self.passes)]) > 1
            for part in self.parts[:1]
            for solved in part.by_rank
            for group in solved.alike
        )

    def counts_alike(self, micro_batch: int) -> bool:
        """Whether a micro-batch may count the same on all ranks.

        If so, gradients that all ranks' losses give to what they gathered count as the losses do.
        """
        solved = self.parts[0].by_rank[0]
        ends = [
            (value - half, value + half)
            for one, value, half in zip(self.passes, solved.values, solved.half, strict=False)
            if one.micro_batch == micro_batch and value is not None and half is not None
        ]
        return len(ends) == self.world and max(ends)[0] <= min(high for _, high in ends)

    def as_json(self) -> dict[str, Any]:
        """Return plain data, which `json` can write."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Step":
        """Return the step that `as_json` made plain."""
        return cls(
            **{
                **data,
                "passes": [
                    Pass(**{**row, "terms": [Term(**term) for term in row["terms"]]})
                    for row in data["passes"]
                ],
                "parts": [
                    Part(**{**row, "by_rank": [Solved(**solved) for solved in row["by_rank"]]})
                    for row in data["parts"]
                ],
                "clips": [Clip(**row) for row in data["clips"]],
            }
        )


def finite(values: Sequence[float]) -> list[float | None]:
    """Return the values, None for those that JSON has no number for."""
    return [float(v) if -inf < v < inf else None for v in values]
