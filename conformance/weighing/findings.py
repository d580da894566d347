"""What a step shows, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 4  # parameters, ranks or passes that a sentence names


@dataclass(frozen=True)
class Finding:
    """Something that a step shows.

    Attributes:
        names: of mistakes; several where it could be one or the other.
        lines: what is seen, one fact each.
        is_fault: whether it is wrong under every promise.
        is_unclear: whether the step's weights cannot be judged because of it.
    """

    names: tuple[str, ...]
    lines: tuple[str, ...]
    is_fault: bool = True
    is_unclear: bool = False


def listed(items: Sequence[object]) -> str:
    """Join the first few items, and say how many more there are."""
    more = len(items) - _SHOWN
    shown = ", ".join(map(str, items[:_SHOWN]))
    return f"{shown} and {more} more" if more > 0 else shown
