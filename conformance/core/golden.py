"""What a case is asked with, and what must come back."""

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
        inputs: what an implementation is given, by name.
        answers: what it must give, by name; empty where it must refuse.
        bounds: how far it may be from the answers of the same names, in float64; empty where the
            case is exact.
        hashes: SHA-256 of the answers, by name, of a case that is made on the fly: then there are
            no arrays.
        certificate: why nothing can round, where an exact case could have.
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
    """Has a solver keep the last goldens that are made on the fly, a few tens of megabytes each.

    All implementations are asked the same case, one after another.
    """
    kept = lru_cache(maxsize=4)(solve)
    return lambda case: kept(case) if case.on_the_fly else solve(case)
