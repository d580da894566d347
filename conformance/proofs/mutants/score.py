"""How many mutants were made, and how many of those that answer otherwise the suite sees."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from conformance.proofs.mutants.ledger import Measured


@dataclass(frozen=True)
class Score:
    """Counts of mutants by what became of them.

    >>> Score(made=10, stillborn=4, killed=3, equivalent=2, survived=1).share
    0.75
    """

    made: int
    stillborn: int
    killed: int
    equivalent: int
    survived: int

    @property
    def share(self) -> float:
        """Of those that answer and answer wrong, the share that the suite sees."""
        return self.killed / (self.killed + self.survived or 1)


def score(measured: Iterable[Measured]) -> Score:
    """Count them."""
    fates = Counter(one.outcome.fate for one in measured)
    return Score(
        fates.total(),
        fates["stillborn"],
        fates["killed"],
        fates["equivalent"],
        fates["survived"],
    )
