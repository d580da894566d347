"""The inputs and the right answer of a case."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from conformance.core.questions import AnyCase


@dataclass(frozen=True)
class Golden:
    """The inputs and the right answer of a case.

    Attributes:
        inputs: the arrays that an implementation gets, by name.
        answers: the arrays that it must return, by name; empty where it must refuse.
        bounds: how far an answer may be from the right one of its name, in float64; empty where
            the case is exact.
        hashes: SHA-256 of the answers, by name, of a case that is made on the fly and therefore
            has no arrays.
        certificate: why no operation of an exact case can round, where a like case could.
    """

    inputs: Mapping[str, np.ndarray]
    answers: Mapping[str, np.ndarray]
    bounds: Mapping[str, np.ndarray] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None


def sha256_of(array: np.ndarray) -> str:
    """Returns SHA-256 of the elements' bytes, row-major, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def hashes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Returns the SHA-256 of each array by its name."""
    return {name: sha256_of(array) for name, array in arrays.items()}


def keeps_large(solve: Callable[[AnyCase], Golden]) -> Callable[[AnyCase], Golden]:
    """Caches the last goldens that are made on the fly, a few tens of megabytes each.

    All implementations are asked the same case, one after another.
    """
    cached = lru_cache(maxsize=4)(solve)
    return lambda case: cached(case) if case.on_the_fly else solve(case)
