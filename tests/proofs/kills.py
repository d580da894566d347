"""What each case kills, asked once in a run of the tests: several files look at it."""

import os
import pickle
from functools import cache
from hashlib import sha256
from pathlib import Path

from conformance.core.questions import AnyCase
from conformance.proofs import kill_matrix as killing

# The folder in which the processes of a run share their answers; tests/conftest.py sets it.
shared: Path | None = None


@cache
def kills_of(case: AnyCase) -> tuple[killing.Kill, ...]:
    """What `killing.kills` says of one case."""
    if shared is None:
        return tuple(killing.kills([case]))
    file = shared / sha256(repr(case).encode()).hexdigest()
    if not file.exists():
        own = file.with_name(f"{file.name}-{os.getpid()}")
        own.write_bytes(pickle.dumps(tuple(killing.kills([case]))))
        own.replace(file)  # The other process finds a whole file, or none.
    return pickle.loads(file.read_bytes())


def kills_of_all(cases: list[AnyCase]) -> tuple[killing.Kill, ...]:
    """What it says of these, in their order."""
    return tuple(kill for case in cases for kill in kills_of(case))
