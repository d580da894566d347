"""The cases of a quick run, a file: `conformance.proofs.quick_cover` chose them.

Choosing them takes the kill matrix, which is minutes of work; a run reads the names.
"""

from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "quick_cases.txt"


@cache
def quick_cases() -> frozenset[str]:
    """Returns the ids of the cases.

    >>> "channel_shuffle:identity-probe-f32-c12-g3" in quick_cases()
    True
    """
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))
