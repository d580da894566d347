"""Chooses where temporary files go, without a file to try it."""

import os
import tempfile
from pathlib import Path

_VARIABLES = ("TMPDIR", "TEMP", "TMP")
_USUAL = "/tmp"  # noqa: S108


def choose() -> None:
    """Sets `tempfile.tempdir` to the folder that the environment names, if it can be written.

    Left to itself, `tempfile` writes a file into the folder and removes it again; a process that is
    killed between the two leaves it there, and nobody knows whose it is.
    """
    for folder in (*(os.environ.get(name, "") for name in _VARIABLES), _USUAL):
        if folder and Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
            tempfile.tempdir = str(Path(folder).absolute())
            return
