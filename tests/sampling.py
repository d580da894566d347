"""Which of many tests of one kind are asked: `ci/run test` asks some, `ci/run test --full` all."""

import os
from collections.abc import Sequence
from typing import TypeVar

IS_FULL = os.environ.get("CONFORMANCE_TESTS") == "full"
T = TypeVar("T")


def some(table: Sequence[T], of: int) -> Sequence[T]:
    """Every so-manyth entry of a table; all of them where all are asked for."""
    return table if IS_FULL else table[::of]
