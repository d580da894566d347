"""The report folder: one process writes to it, each file whole, and nothing of an older run stays.

What cannot be written once a run has begun is remembered, and told in one line: it costs neither
the verdict nor the exit status.
"""

import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from conformance.core.outcomes import UsageError

RESULTS = "results.jsonl"
# What is made of results.jsonl. `report.forms` and `report.page` know how.
REPORTS = (
    "agreement.txt", "summary.md", "checks.csv", "junit.xml", "badge.svg", "index.html",
)  # fmt: skip
LOCK, IGNORED = ".conformance.lock", ".gitignore"
LAST_FAILED = "last-failed"  # A report folder inside: what failed in this one, asked again.
_KITS = ("environment.json", "summary.txt")  # Of ci/gpu.
# What other commands and older versions keep there.
_OTHERS = ("fuzz.jsonl", "fuzz", "mutants.jsonl", "weights.json", "cache", LAST_FAILED, *_KITS)
_OWN = frozenset({RESULTS, *REPORTS, LOCK, IGNORED, *_OTHERS})
_DRAFT = ".part"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_REPLACED = "removed or replaced while the run wrote"
_CHANGED = "changed by something else while the run wrote it"
_NAMED = 3  # Files of others beside a count.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # Of some network file systems.


class ReportFolder:
    """A report folder, for this process alone as long as its `with` lasts."""

    def __init__(self, path: Path, say: Callable[[str], None] = lambda _: None) -> None:
        """Opens nothing; `with` does.

        Args:
            path: where it is.
            say: takes a line to the user: that the folder holds files of others, and, at the end,
                what could not be written.
        """
        self.path, self._say = path, say
        self._unwritten: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Makes the folder where it is missing, and locks it.

        Raises:
            UsageError: if it cannot be written, another process writes to it, or a file of
                somebody else would be overwritten.
        """
        try:
            self._made = [f for f in (self.path, *self.path.parents) if not f.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            names = sorted(entry.name for entry in self.path.iterdir())
            self._look_at(names)
            self._lock = self._locked()
        except OSError as error:
            raise self._refusal(error) from error
        is_alone = all(name in _OWN or name.endswith(_DRAFT) for name in names)
        if is_alone and IGNORED not in names:
            self.write(IGNORED, "# Reports of `conformance`: made again by each run.\n*\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Frees the lock, and tells what could not be written, however the run ended."""
        if isinstance(error, UsageError):
            self._unmake()
        os.close(self._lock)
        if self.shortfall:
            self._say(f"conformance: {self.shortfall}")

    def _unmake(self) -> None:
        """Removes the folders that were made for a call that was wrong; files of others stay."""
        with suppress(OSError):
            for name in (IGNORED, LOCK) if self._made else ():
                (self.path / name).unlink(missing_ok=True)
            for folder in self._made:
                folder.rmdir()

    def clear(self) -> None:
        """Removes the reports of an older run, so that none stands beside new results.

        Raises:
            UsageError: if one cannot be removed.
        """
        names: tuple[str, ...] = (*REPORTS, RESULTS)
        names = (*names, *(f"{LAST_FAILED}/{name}" for name in names))
        for name in (*names, *map(_draft_of, names)):
            try:
                self.remove(name)
            except OSError as error:
                raise self._refusal(error) from error

    def remove(self, name: str) -> None:
        """Removes a file, if there is one; a folder of this name is no report, and stays."""
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError:
            if not (self.path / name).is_dir():
                raise

    def write(self, name: str, text: str) -> bool:
        """Writes a file whole, or leaves it as it was, and says whether it is written."""
        descriptor = self.begin(name, text)
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    def begin(self, name: str, text: str) -> int | None:
        """Writes a file as `write` does, and returns its descriptor, at the end of the text."""
        draft = self.path / _draft_of(name)
        descriptor = -1
        try:
            if not self.is_in_place(LOCK, self._lock):
                raise OSError(0, _REPLACED)
            self.remove(_draft_of(name))  # That of a process that was killed.
            descriptor = os.open(draft, _NEW, 0o666)
            write_all(descriptor, as_bytes(text))
            draft.replace(self.path / name)
        except OSError as error:
            self.fail(name, error)
            with suppress(OSError):
                os.close(descriptor)
            with suppress(OSError):
                draft.unlink()
            return None
        self._unwritten.pop(name, None)
        return descriptor

    def append(self, name: str, content: dict[str, Any]) -> None:
        """Appends a line to a file of an earlier run, or of this one."""
        try:
            descriptor = os.open(self.path / name, _NEW & ~os.O_EXCL, 0o666)
            try:
                write_all(descriptor, as_bytes(as_line(content)))
            finally:
                os.close(descriptor)
        except OSError as error:
            self.fail(name, error)

    def fail(self, name: str, error: OSError) -> None:
        """Remembers that a file could not be written, and why."""
        self._unwritten.setdefault(name, error.strerror or str(error))

    def is_in_place(self, name: str, descriptor: int) -> bool:
        """Says whether this open file still stands under its name."""
        try:
            return os.path.samestat((self.path / name).stat(), os.fstat(descriptor))
        except OSError:
            return False

    @property
    def shortfall(self) -> str:
        """What could not be written, and why, in one line; empty where all was."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self._unwritten.items():
            by_reason.setdefault(reason, []).append(name)
        words = "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())
        return words and f"report folder {self.path}: not written: {words}"

    def _locked(self) -> int:
        """Returns the open lock, which the kernel frees when this process ends in any way."""
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise UsageError(
                f"report folder {self.path}: another run writes to it; choose another by --report"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(lock)
                raise
            self._say(f"report folder {self.path} cannot be locked: let no other run write to it")
        return lock

    def _look_at(self, names: list[str]) -> None:
        """Overwrites nothing of others, and says that there is something of theirs.

        Raises:
            UsageError: naming a file of theirs that a report would replace.
        """
        others = [name for name in names if name not in _OWN and not name.startswith(".")]
        is_ours = LOCK in names or _are_results(self.path / RESULTS)
        theirs = [
            name
            for name in (RESULTS, *REPORTS)
            if name in names and not (self.path / name).is_dir()
        ]
        if theirs and not is_ours:
            raise UsageError(
                f"report folder {self.path}: its {theirs[0]} is of no run of conformance, and "
                "would be replaced; choose another by --report"
            )
        if others:
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            named = ", ".join(others[:_NAMED])
            self._say(f"report folder {self.path} holds other files, which stay: {named}{more}")

    def _refusal(self, error: OSError) -> UsageError:
        return UsageError(
            f"report folder {self.path}: cannot be written ({error.strerror or error}); "
            "choose another by --report"
        )


class Lines:
    """A file that grows line by line; the first line that cannot be written ends it."""

    def __init__(self, folder: ReportFolder, name: str = RESULTS) -> None:
        """Writes nothing yet; `begin` does."""
        self._folder, self._name = folder, name
        self._descriptor: int | None = None
        self._written = hashlib.sha256()

    def begin(self, content: dict[str, Any]) -> None:
        """Begins the file anew with this line, in the place of any file of its name."""
        self.close()
        line = as_line(content)
        self._descriptor = self._folder.begin(self._name, line)
        self._written = hashlib.sha256(as_bytes(line))

    def add(self, content: dict[str, Any]) -> None:
        """Appends a line, unless one before could not be written."""
        if self._descriptor is None:
            return
        line = as_bytes(as_line(content))
        try:
            write_all(self._descriptor, line)
        except OSError as error:
            self._folder.fail(self._name, error)
            self.close()
        self._written.update(line)

    def end(self) -> None:
        """Ends the file, and looks whether it is where it was begun, and holds what was written."""
        if self._descriptor is not None:
            if not self._folder.is_in_place(self._name, self._descriptor):
                self._folder.fail(self._name, OSError(0, _REPLACED))
            elif self._is_changed():
                self._folder.fail(self._name, OSError(0, _CHANGED))
            self.close()

    def _is_changed(self) -> bool:
        try:
            with (self._folder.path / self._name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest() != self._written.digest()
        except OSError:
            return True

    def close(self) -> None:
        """Writes no more."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def as_line(content: dict[str, Any]) -> str:
    """Writes a line of JSON."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def as_bytes(text: str) -> bytes:
    """Encodes a text; half a character, which UTF-8 has not, becomes an escape, as JSON has it."""
    return text.encode("utf-8", "backslashreplace")


def write_all(descriptor: int, content: bytes) -> None:
    """Writes bytes past any buffer: no interruption leaves a part of them for later."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _are_results(file: Path) -> bool:
    """Says whether a file is of a run, by its first characters; an empty one was cut short."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return False
        with file.open("rb") as stream:
            return stream.read(16) in (b"", b'{"kind": "header')
    except OSError:
        return False


def _draft_of(name: str) -> str:
    file = Path(name)
    return str(file.with_name(f".{file.name}{_DRAFT}"))
