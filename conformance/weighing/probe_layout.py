"""Which items the samples of a probe's data set have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IGNORED = -100  # the label of padding
_LENGTHS = (2, 5, 1, 4, 3, 6, 1, 2)  # of sequences; unequal, so that counts can be told apart


@dataclass(frozen=True)
class Layout:
    """Which items a data set's samples have.

    Attributes:
        lengths: items of each sample.
        length: places of a padded sample.
        shifts: whether each sample has one label more than it has items.
    """

    lengths: tuple[int, ...]
    length: int = 1
    shifts: bool = False

    @property
    def items(self) -> int:
        """Return how many there are."""
        return sum(self.lengths)

    def owners(self) -> list[int]:
        """Return each item's sample."""
        return [s for s, n in enumerate(self.lengths) for _ in range(n)]

    def sequences(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the items' numbers and the labels of each sample, padded, for a loss that shifts.

        The last place of a sequence has a label and predicts none: it is no item.

        >>> layout_of("next_token", lengths=(2, 1)).sequences()[0].tolist()
        [[1, 2, 0], [3, 0, 0]]
        """
        numbers = np.zeros((len(self.lengths), self.length), np.int64)
        labels = np.full_like(numbers, IGNORED)
        first = 1
        for sample, length in enumerate(self.lengths):
            numbers[sample, :length] = range(first, first + length)
            labels[sample, : length + 1] = 0
            first += length
        return numbers, labels


def layout_of(loss: str, items: int = 0, lengths: Sequence[int] | None = None) -> Layout:
    """Return which items the samples of a probe have."""
    if lengths is None:
        pattern = _LENGTHS * (items // sum(_LENGTHS) + 1) if loss == "next_token" else (1,) * items
        ends = np.minimum(np.cumsum(pattern), items)
        lengths = [int(n) for n in np.diff(ends, prepend=0) if n]
    elif loss != "next_token":
        raise ValueError("lengths are of next_token; every other sample is one item")
    if not lengths or min(lengths) < 1:
        raise ValueError(f"a probe has items: {items} of lengths {list(lengths)} are none")
    shifts = loss == "next_token"
    return Layout(tuple(lengths), max(lengths) + shifts, shifts)
