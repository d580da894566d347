"""The known wrong ways, one module per operation."""

from collections.abc import Iterable
from typing import Any

from conformance.channel_shuffle import mistakes as channel_shuffle
from conformance.core.mistake import Mistake
from conformance.gradient_mean import mistakes as gradient_mean

__all__ = ["Mistake", "catalogue"]


def _without_doubles(mistakes: Iterable[Mistake[Any]]) -> tuple[Mistake[Any], ...]:
    """The mistakes, by unique names.

    Raises:
        ValueError: naming the first that is there twice.
    """
    by_name: dict[str, Mistake[Any]] = {}
    for mistake in mistakes:
        first = by_name.setdefault(mistake.name, mistake)
        if first is not mistake:
            raise ValueError(
                f"mistake {mistake.name} is there twice, in {first.operation} and "
                f"{mistake.operation}: a name means one thing"
            )
    return tuple(by_name.values())


_EVERYTHING = _without_doubles((*channel_shuffle.MISTAKES, *gradient_mean.MISTAKES))


def catalogue(operation: str | None = None) -> tuple[Mistake[Any], ...]:
    """All mistakes, or those of one operation, in the order in which a diagnosis tries them."""
    return tuple(m for m in _EVERYTHING if operation in (None, m.operation))
