"""What the implementations of a run declare of themselves, read by syntax.

Files are read and never run: a results file from elsewhere may name any adapter.
"""

from collections.abc import Mapping
from pathlib import Path

from conformance.core.implementations import Implementation, declared_in, own
from conformance.core.outcomes import UsageError
from conformance.run.results import Run

_UNREADABLE = (OSError, ValueError, SyntaxError, AssertionError, RecursionError, MemoryError)


def declarations(run: Run) -> Mapping[tuple[str, str], Implementation]:
    """Returns what can be read, by operation and name; the suite's own go before an adapter's."""
    adapters = run.header.get("environment", {}).get("adapters", [])
    outside = [declared for name in adapters for declared in _of_adapter(name)]
    return {(declared.operation, declared.name): declared for declared in (*outside, *own())}


def _of_adapter(adapter: str) -> list[Implementation]:
    """Returns what an adapter's file declares; nothing where that cannot be seen."""
    path = Path(adapter)
    if path.suffix != ".py" or not path.is_file():
        return []
    try:
        return declared_in(path)
    except (*_UNREADABLE, UsageError):
        return []  # The file is gone since, or code declares: its framework is not known.
