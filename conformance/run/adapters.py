"""Finds what adapters declare, each in a process of its own: none of their code runs here."""

import importlib.machinery
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from conformance.core.implementations import (
    ENTRY_POINTS,
    Implementation,
    adapter,
    own,
    without_doubles,
)
from conformance.core.outcomes import Declined, Fate, Raised, UsageError
from conformance.core.rank import Rank
from conformance.processes import LocalWorld, Task
from conformance.processes.task import name_of
from conformance.run.worlds import PRELOAD, environment_of

# An adapter may import several frameworks on a slow machine, and nothing else that takes long.
IMPORT_LIMIT = 60.0
_MOST_READ = 1 << 20
_FRAMEWORK = re.compile(r"framework\s*=\s*[\"'](torch|jax|numpy)[\"']")


def gather(adapters: Iterable[str] = (), limit: float = IMPORT_LIMIT) -> tuple[Implementation, ...]:
    """Returns every implementation of a run: the suite's own, installed ones, and the adapters'.

    What lies in the working folder can be imported from here on, last of all, as an adapter can
    import what lies beside it.

    Args:
        adapters: files or modules.
        limit: seconds that the import of one may take.

    Raises:
        UsageError: if an adapter is missing, does not import, or declares nothing or a name twice.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    installed = [entry.value for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)]
    once: dict[str, str] = {}
    for name in (*installed, *adapters):
        once.setdefault(_identity_of(name), name)
    outside = [declared for name in once.values() for declared in declared_by(name, limit)]
    return without_doubles([*own(), *outside])


def declared_by(name: str, limit: float = IMPORT_LIMIT) -> tuple[Implementation, ...]:
    """Runs an adapter in a process of its own, and returns what it declares.

    Args:
        name: a file or a module.
        limit: seconds that its import may take.

    Raises:
        UsageError: if it is missing, does not import, or declares nothing or a name twice.
    """
    world = LocalWorld(_preload_of(name), None, environment_of(None), is_alone=True)
    try:
        task = Task(name_of(declare), name, limit=0, kinds=(Implementation,))
        [outcome] = world.run(task, limit)
    finally:
        world.close()
    match outcome:
        case tuple() if outcome and all(isinstance(d, Implementation) for d in outcome):
            return outcome
        case Raised("UsageError", message):
            raise UsageError(message)
        case Raised(kind, message):
            reason = f"{kind}: {message.partition(chr(10))[0]}"
        case Fate(_, reason) | Declined(_, reason):
            pass
        case _:
            reason = f"it gave {outcome!r:.80}"
    raise UsageError(f"adapter {name}: does not import: {reason}")


def _identity_of(name: str) -> str:
    """Returns what an adapter that is given twice, by whatever path, has in common.

    A link to itself, which a path refuses to resolve, is told by whoever opens it.
    """
    return os.path.realpath(name) if name.endswith(".py") else name


def declare(name: str, rank: Rank) -> tuple[Implementation, ...]:
    """Returns what an adapter declares, in the process of a rank.

    Raises:
        UsageError: as `declared_by` does.
    """
    del rank
    return adapter(name)


def _preload_of(name: str) -> tuple[str, ...]:
    """Returns the imports of the fork server that a run needs anyway, as far as its text says."""
    try:
        path = Path(name) if name.endswith(".py") else _file_of(name)
        if path is None or not path.is_file():  # A pipe would be waited for.
            return ()
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_READ)
    except (OSError, ValueError):
        return ()
    framework = _FRAMEWORK.search(text)
    return PRELOAD[framework[1]] if framework else ()


def _file_of(module: str) -> Path | None:
    """Returns the file of a module without importing the packages around it; None if unknown."""
    path = None
    for part in module.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return Path(spec.origin) if spec is not None and spec.origin else None
