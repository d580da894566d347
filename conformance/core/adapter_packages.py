"""The packages that an adapter imports, and their versions, read from its source."""

import ast
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

_OURS = "conformance"


def packages_of(adapters: Sequence[str]) -> dict[str, str]:
    """Returns the versions of the packages that adapters import, themselves or by files beside.

    What cannot be read, or is of no package, is left out.

    Args:
        adapters: files; of a module its own package is all that is known.
    """
    roots = dict.fromkeys(root for adapter in adapters for root in _roots(adapter))
    versions: dict[str, str] = {}
    for root in roots:
        for name in _distributions(root):
            versions[canonicalize_name(name)] = metadata.version(name)
    return versions


def _roots(adapter: str) -> Iterator[str]:
    """Yields the first words of what an adapter imports, which may be installed."""
    if not adapter.endswith(".py"):
        yield adapter.partition(".")[0]
        return
    files = [Path(adapter)]
    for file in files:
        for root in _imported(file):
            beside = Path(adapter).parent / f"{root}.py"
            if beside.is_file() and beside not in files:
                files.append(beside)
            elif root not in sys.stdlib_module_names and root != _OURS:
                yield root


def _imported(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _distributions(root: str) -> list[str]:
    """Returns the distributions that have a top-level module; mostly the one of its name."""
    try:
        return [metadata.distribution(root).name]
    except metadata.PackageNotFoundError:
        return sorted(set(metadata.packages_distributions().get(root, ())))
