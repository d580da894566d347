"""What is known of weighed steps: each term's weights, and the verdict on one optimizer's steps."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from conformance.weighing.findings import Finding
from conformance.weighing.formula import Cell, Reading
from conformance.weighing.records import Step, Term
from conformance.weighing.weights import Weights


@dataclass(frozen=True)
class TermWeights:
    """One term of the loss over the weighed steps of one optimizer.

    Attributes:
        cells: its items by step, rank and micro-batch.
        names: of mistakes; None where the promise is kept.
        note: why it is not judged; empty where it is.
        is_constant: whether a promise is kept but for one factor in all steps.
        is_clipped: whether it is kept but for a factor by which the script itself clips.
        is_of_each_rank: whether it is a penalty that all ranks' losses add to the step, where a
            mean was promised: each rank may have meant the whole of it.
    """

    term: Term
    cells: Sequence[Cell]
    reading: Reading
    names: tuple[str, ...] | None
    promises: tuple[str, ...] = ()
    note: str = ""
    is_constant: bool = False
    is_clipped: bool = False
    is_of_each_rank: bool = False

    def weights(self, world: int) -> Weights:
        """Return the weight of each item, one after another."""
        places = [
            (c.step, c.rank, c.micro_batch, c.low, c.high)
            for c in self.cells
            for _ in range(c.count)
        ]
        table = np.array(places, float).reshape(-1, 5)
        low, high = table[:, 3], table[:, 4]
        whole = table[:, :3].astype(int)
        counts = {
            kind: {
                (c.step, c.rank, c.micro_batch): int(count)
                for c in self.cells
                if (count := c.counted(kind)) is not None
            }
            for kind in "spm"
        }
        return Weights(
            (low + high) / 2, low, high, whole[:, 1], whole[:, 2], whole[:, 0],
            np.ones(len(table), bool), world, {k: v for k, v in counts.items() if v},
        )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """On all weighed steps of one optimizer."""

    optimizer: str
    promise: str | None
    world: int
    steps: Sequence[Step]
    findings: Sequence[tuple[int, Finding]]
    terms: Sequence[TermWeights]
    problems: Sequence[tuple[int, str]] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """Return the mistakes, those of gradients first."""
        faults = [finding.names for _, finding in self.findings if finding.is_fault]
        faults += [term.names for term in self.terms if term.names]
        return tuple(dict.fromkeys(name for names in faults for name in names))

    @property
    def unclear(self) -> tuple[str, ...]:
        """Return what the findings are called that hide a step's weights."""
        return tuple(name for _, f in self.findings if f.is_unclear for name in f.names)

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong."""
        return any(finding.is_fault for _, finding in self.findings) or any(
            term.names is not None for term in self.terms
        )

    @property
    def is_weighed(self) -> bool:
        """Whether a step was weighed, and every item that was promised something is known."""
        if len(self.problems) == len(self.steps):
            return self.is_fault
        unweighed = {at for at, _ in self.problems}
        if all(step.shares_weights for step in self.steps if step.step not in unweighed):
            return self.is_fault
        if self.promise and "no-weighted-sum" in self.unclear:
            return self.is_fault  # as where compression begins after a few steps
        judged = [
            not term.note for term in self.terms if not term.term.is_penalty or term.is_of_each_rank
        ]
        return self.is_fault or ((all(judged) if self.promise else any(judged)) and bool(judged))
