"""Where compiled code is kept between runs: in a folder of this user, which nobody else writes to.

What lies there is loaded and executed. It is therefore not in the report folder, which is sent and
unpacked, nor in the folder of temporary files, which all users share.
"""

import os
import shutil
import stat
from functools import cache
from pathlib import Path

from conformance.processes.temp_folders import new_folder


@cache
def folder() -> Path:
    """Returns the folder; where there is none to trust, one that goes when this process ends."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        if home.is_absolute() and _is_own(own := home / "conformance"):
            return own
    except (OSError, RuntimeError):  # There is no home, or it cannot be written.
        pass
    return new_folder("cache")


def _is_own(place: Path) -> bool:
    """Makes the folder, and says whether this user alone can have put something into it."""
    place.mkdir(parents=True, mode=0o700, exist_ok=True)
    status = place.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return False
    if status.st_mode & 0o022:  # Others could put something into it: what is there is not used.
        shutil.rmtree(place)
        place.mkdir(mode=0o700)
    elif status.st_mode & 0o055:
        place.chmod(0o700)
    return True
