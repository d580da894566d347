"""Other packages of the environment that are called `conformance`, too."""

import re
from importlib import metadata
from pathlib import Path

import conformance
from conformance.core.outcomes import UsageError

_OURS, _PACKAGE = "torch-jax-conformance", "conformance"


def neighbours(folder: Path | None = None) -> str:
    """Returns a line about other distributions that put files into this package; empty if none did.

    Whether to look for them is decided by the folder: metadata of everything takes long to read.

    Raises:
        UsageError: if one of them was installed over the suite, so that it cannot run.
    """
    folder = folder or Path(__file__).parents[1]
    own = _own_entries(folder)
    strange = {entry.name for entry in folder.iterdir()} - own - {"__pycache__"}
    is_whole = hasattr(conformance, "implementation")
    if is_whole and not (own and strange):
        return ""
    owners = [
        f"{distribution.name} {distribution.version}"
        for distribution in metadata.distributions()
        if _plain(distribution.name) != _OURS and _entries(distribution)
    ]
    if not owners and is_whole:
        return ""
    named = f"{' and '.join(owners) or 'another package'} put files into {folder}, too"
    advice = "install the suite in an environment of its own"
    if not is_whole:
        raise UsageError(f"{named}, over the suite's: {advice}")
    return f"{named}: if anything is odd, {advice}"


def _own_entries(folder: Path) -> set[str]:
    """Returns what this package was installed with; of a checkout there is no such list."""
    try:
        distribution = metadata.distribution(_OURS)
    except metadata.PackageNotFoundError:
        return set()
    is_here = Path(str(distribution.locate_file(_PACKAGE))) == folder
    return _entries(distribution) if is_here else set()


def _entries(distribution: metadata.Distribution) -> set[str]:
    """Returns what stands in the folder `conformance` by the distribution's own list of files."""
    return {
        file.parts[1]
        for file in distribution.files or ()
        if len(file.parts) > 1 and file.parts[0] == _PACKAGE
    }


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
