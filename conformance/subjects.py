"""What is asked: one module per operation, each a composition of plain data."""

from functools import cache

from conformance.cases import gradient_mean
from conformance.channel_shuffle import inputs as channel_shuffle
from conformance.core.questions import AnyCase

__all__ = ["AnyCase", "all_cases"]


@cache
def all_cases() -> tuple[AnyCase, ...]:
    """Every case of every operation, in the order in which they are asked."""
    return (*channel_shuffle.cases(), *gradient_mean.cases())
