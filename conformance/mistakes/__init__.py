"""The known wrong ways, one module per operation."""

from typing import Any

from conformance.mistakes import channel_shuffle, gradient_mean
from conformance.mistakes.mistake import Mistake

__all__ = ["Mistake", "catalogue"]


def catalogue(operation: str | None = None) -> tuple[Mistake[Any], ...]:
    """All mistakes, or those of one operation, in the order in which a diagnosis tries them."""
    everything: tuple[Mistake[Any], ...] = (*channel_shuffle.MISTAKES, *gradient_mean.MISTAKES)
    return tuple(m for m in everything if operation in (None, m.operation))
