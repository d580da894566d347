"""What is asked: one module per operation, each a composition of plain data."""

from functools import cache

import numpy as np

from conformance.cases import channel_shuffle
from conformance.cases.case import Case

__all__ = ["Case", "all_cases", "inputs"]


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case of every operation, in the order in which they are asked."""
    return channel_shuffle.cases()


def inputs(case: Case) -> dict[str, np.ndarray]:
    """The named input tensors of a case, made from its question alone."""
    return channel_shuffle.inputs(case.question)
