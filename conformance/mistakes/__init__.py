"""The known wrong ways, one module per operation."""

from typing import Any

from conformance.mistakes import channel_shuffle
from conformance.mistakes.mistake import Mistake

__all__ = ["Mistake", "catalogue"]


def catalogue(operation: str | None = None) -> tuple[Mistake[Any], ...]:
    """All mistakes, or those of one operation, in the order in which a diagnosis tries them."""
    return tuple(m for m in channel_shuffle.MISTAKES if operation in (None, m.operation))
