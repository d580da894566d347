"""Finds the innermost line of the implementation in a traceback or a stack dump.

Both end deep inside a framework. The last line of the reader's own code helps more, so frames of
the suite, the standard library and installed packages are passed over. Where a library raised, its
line stands beside: that is where what it was given did not fit.
"""

import re
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import conformance

_SUITE = str(Path(conformance.__file__).parent) + "/"
# In an installed suite the implementations lie inside the package, and they are what is tested.
_IMPLEMENTATIONS = _SUITE + "impls/"
_LIBRARY = tuple(
    sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_INSTALLED = re.compile(r"/(?:site|dist)-packages/")
_THREAD = re.compile(r"^(Current thread|Thread) 0x")
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')


@dataclass(frozen=True)
class Frame:
    """A line of code that was being run."""

    file: str
    line: int
    function: str

    def location(self, folder: str) -> str:
        """Returns `file:line`, relative to the folder where the file is below it."""
        return f"{self.file.removeprefix(folder.rstrip('/') + '/')}:{self.line}"

    @property
    def in_library(self) -> str:
        """Returns `file:line`, relative to the folder that libraries are installed in."""
        file = _INSTALLED.split(self.file)[-1]
        for folder in _LIBRARY:
            file = file.removeprefix(folder)
        return f"{file}:{self.line}"


def where(traceback: TracebackType | None, folder: str) -> str:
    """Returns `file:line` of the implementation's innermost frame[, in `file:line` of a library].

    Without a frame of the implementation the library's stands alone; the text may be empty.
    """
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(Frame(code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    frames.reverse()
    own = _innermost_own(frames)
    library = next((frame for frame in frames if frame is own or _is_of_library(frame.file)), own)
    if own is None:
        return library.in_library if library else ""
    inside = f", in {library.in_library}" if library and library is not own else ""
    return own.location(folder) + inside


def described(dump: str, folder: str) -> str:
    """Returns `FILE:LINE, in FUNCTION[, inside FUNCTION OF A LIBRARY]` of a dump by faulthandler.

    The result is empty where the dump is. It describes one thread, since nobody would read two: the
    thread that failed, else the main thread.
    """
    frames = _deciding_thread(dump)
    if not frames:
        return ""
    innermost, own = frames[0], _innermost_own(frames)
    if own is None or own is innermost:
        return f"{innermost.location(folder)}, in {innermost.function}"
    return f"{own.location(folder)}, in {own.function}, inside {innermost.function}"


def _innermost_own(innermost_first: Iterable[Frame]) -> Frame | None:
    return next((frame for frame in innermost_first if _is_own(frame.file)), None)


def _is_own(file: str) -> bool:
    if file.startswith("<"):  # Such code is frozen or generated.
        return False
    if file.startswith(_IMPLEMENTATIONS):
        return True
    return not (file.startswith((_SUITE, *_LIBRARY)) or _INSTALLED.search(file))


def _is_of_library(file: str) -> bool:
    if file.startswith(("<", _SUITE)):
        return False
    return file.startswith(_LIBRARY) or _INSTALLED.search(file) is not None


def _deciding_thread(dump: str) -> Sequence[Frame]:
    """Returns the frames, innermost first, of the thread that failed, else of the main thread.

    A fatal error dumps just the thread that failed; a signal dumps all, the main thread last.
    """
    frames: list[Frame] = []
    for line in dump.splitlines():
        if _THREAD.match(line):
            frames = []
        elif match := _FRAME.match(line):
            frames.append(Frame(match["file"], int(match["line"]), match["function"]))
    return frames
