"""Makes temporary folders, and removes those of processes that died.

The name of a process's folder holds its id and its time of start, since ids are used again.
"""

import atexit
import contextlib
import os
import re
import shutil
import tempfile
import threading
from pathlib import Path
from typing import IO

_NAME = re.compile(r"^conformance-(?P<pid>\d+)-(?P<start>\d+)-")
_folders: dict[int, Path] = {}  # process id → its folder: a forked copy makes its own
_lock = threading.Lock()


def new_folder(kind: str) -> Path:
    """Makes an empty folder; the caller removes it, else it goes when this process ends.

    Args:
        kind: how its name begins.
    """
    return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=_own()))


def nameless_file() -> IO[bytes]:
    """Opens a file to append to and read, which nobody else can find; the caller closes it."""
    # Code under test may have removed the folder.
    Path(tempfile.gettempdir()).mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(mode="ab+")


def sweep(parent: Path) -> None:
    """Removes the folders of dead processes from a folder.

    Args:
        parent: the folder, which other programs use too.
    """
    for folder in parent.glob("conformance-*-*-*"):
        match = _NAME.match(folder.name)
        if match is None:
            continue
        # The folder may be another user's, or another process may be removing it right now.
        with contextlib.suppress(OSError):
            if _start_of(int(match["pid"])) != int(match["start"]):
                shutil.rmtree(folder, ignore_errors=True)


def _own() -> Path:
    pid = os.getpid()
    with _lock:
        if pid not in _folders or not _folders[pid].is_dir():
            parent = Path(tempfile.gettempdir())
            parent.mkdir(parents=True, exist_ok=True)
            sweep(parent)
            prefix = f"conformance-{pid}-{_start_of(pid)}-"
            _folders[pid] = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        return _folders[pid]


def _start_of(pid: int) -> int | None:
    """Returns when a process started, in ticks since the machine did; None if there is none."""
    try:
        # The name of the command, in parentheses, may hold spaces and parentheses itself.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _alive(pid)


def _alive(pid: int) -> int | None:
    """Returns 0 for a process that lives: without /proc its time of start is not known."""
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
