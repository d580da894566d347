"""What is asked: one module per operation, each a composition of plain data."""

from functools import cache

import numpy as np

from conformance.cases import channel_shuffle
from conformance.cases.case import AnyCase

__all__ = ["AnyCase", "all_cases", "inputs"]


@cache
def all_cases() -> tuple[AnyCase, ...]:
    """Every case of every operation, in the order in which they are asked."""
    return channel_shuffle.cases()


def inputs(case: AnyCase) -> dict[str, np.ndarray]:
    """The named input tensors of a case, made from its question alone."""
    return channel_shuffle.inputs(case.question)
