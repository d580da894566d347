"""A folder of this process among the temporary ones, and the removal of those of the dead.

Its name tells which process made it, by process id and time of start, since ids are used again.
"""

import atexit
import contextlib
import os
import re
import shutil
import tempfile
import threading
from pathlib import Path

_NAME = re.compile(r"^conformance-(?P<pid>\d+)-(?P<start>\d+)-")
_folders: dict[int, Path] = {}  # process id → its folder: a forked copy has one of its own
_lock = threading.Lock()


def new_folder(kind: str) -> Path:
    """A new empty folder; whoever asked removes it, else it goes when this process ends.

    Args:
        kind: how its name begins.
    """
    return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=_own()))


def sweep(parent: Path) -> None:
    """Remove what processes that ended without a word left in a folder.

    Args:
        parent: the folder, which others use too.
    """
    for folder in parent.glob("conformance-*-*-*"):
        named = _NAME.match(folder.name)
        if named is None:
            continue
        # Somebody else's, perhaps, or being removed by somebody else at this moment.
        with contextlib.suppress(OSError):
            if _start_of(int(named["pid"])) != int(named["start"]):
                shutil.rmtree(folder, ignore_errors=True)


def _own() -> Path:
    pid = os.getpid()
    with _lock:
        if pid not in _folders:
            parent = Path(tempfile.gettempdir())
            sweep(parent)
            prefix = f"conformance-{pid}-{_start_of(pid)}-"
            _folders[pid] = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        return _folders[pid]


def _start_of(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None if there is no such process."""
    try:
        # The name of the command, in parentheses, may hold spaces and parentheses itself.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _alive(pid)


def _alive(pid: int) -> int | None:
    """Without /proc the time is not known: 0 for every process that lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return 0
    return 0


@atexit.register
def _remove_own() -> None:
    if folder := _folders.pop(os.getpid(), None):
        shutil.rmtree(folder, ignore_errors=True)
