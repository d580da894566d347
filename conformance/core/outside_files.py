"""Files of others, read with suspicion: text, then JSON or TOML, then a schema, and then used.

Damage is a `UsageError` of one line that names the file, the place and what would be right. Nothing
here waits for a pipe, reads a device without an end, or follows data deeper than reports go.
"""

import json
import math
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from conformance.core.outcomes import UsageError
from conformance.core.outside_words import one_line

Form = TypeVar("Form")
Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]

LARGEST = 1 << 30  # Bytes of a file; the results of a whole run take some ten million.
DEEPEST = 24  # Lists and tables inside one another.
_QUOTED = 300  # Characters of a wrong value and its place.
_DIGITS = 18  # Of an integer: as many as 64 bits hold.


def read_bytes(path: Path, what: str) -> bytes:
    """Reads a file.

    Args:
        path: the file.
        what: how errors call it.

    Raises:
        UsageError: if it is missing, no regular file, or larger than any of its kind.
    """
    try:
        # A pipe without a writer would keep an open that waits waiting for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{what}: is no regular file")
            if status.st_size > LARGEST:
                raise UsageError(f"{what}: has {status.st_size} bytes; at most {LARGEST} are read")
            return stream.read(LARGEST)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{what}: cannot be read ({reason})") from error


def read_text(path: Path, what: str) -> str:
    """Reads a file of UTF-8; as `read_bytes` does.

    Raises:
        UsageError: as `read_bytes` does, or if it is no UTF-8.
    """
    try:
        return read_bytes(path, what).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{what}: cannot be read ({error})") from error


def parse_json(text: str | bytes, what: str) -> Any:
    """Parses JSON.

    Raises:
        UsageError: if it is none, or holds numbers or depths that no file of ours has.
    """
    try:
        content = json.loads(
            text, parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{what}: is not JSON ({error})") from error
    return _shallow(content, what)


def parse_toml(text: str, what: str) -> dict[str, Any]:
    """Parses TOML.

    Raises:
        UsageError: if it is none.
    """
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{what}: is not TOML ({error})") from error
    _shallow(content, what)
    return content


def checked(content: Any, form: type[Form], what: str) -> Form:
    """Returns data in its form.

    Args:
        content: lists, tables, texts and numbers.
        form: a dataclass, a `msgspec.Struct`, a `TypedDict`, or a type made of these.
        what: how errors call the data.

    Raises:
        UsageError: naming the field, and what is expected there.
    """
    try:
        return msgspec.convert(content, form)
    except (msgspec.ValidationError, OverflowError) as error:
        reason, _, place = str(error).partition(" - at `$")
        field = place.rstrip("`").removeprefix(".")
        words = one_line(f"{field}: {_plain(reason)}" if field else _plain(reason), _QUOTED)
        known = _known(form, field, reason)
        raise UsageError(f"{what}: {words}{known and f'; known: {known}'}") from error
    except UnicodeEncodeError as error:  # msgspec quotes a value, of which this is a part.
        raise UsageError(f"{what}: holds half a character where no text is expected") from error


def read_entries(
    path: Path, table: str, form: type[Form], what: str = ""
) -> list[tuple[str, Form]]:
    """Reads the entries `[[table]]` of a file of TOML, each with its place: file and line.

    Args:
        path: the file.
        table: the name of the entries.
        form: what each has to be.
        what: how errors call the file; its path by default.

    Raises:
        UsageError: if the file cannot be read, or holds anything but such entries.
    """
    what = what or str(path)
    text = read_text(path, what)
    content = parse_toml(text, what)
    unknown = next((name for name in content if name != table), None)
    entries = content.get(table, [])
    if unknown is not None or not isinstance(entries, list):
        raise UsageError(f"{what}: holds {unknown or table!r}; entries [[{table}]] are meant")
    begins = re.compile(rf"\s*\[\[\s*{table}\s*\]\]")
    lines = [n for n, line in enumerate(text.split("\n"), start=1) if begins.match(line)]
    places = [f"{what}:{line}" for line in lines]
    if len(places) != len(entries):  # They are written in another way.
        places = [f"{what}: {table} {number}" for number in range(1, len(entries) + 1)]
    return [
        (place, checked(entry, form, place)) for place, entry in zip(places, entries, strict=True)
    ]


def _known(form: Any, field: str, reason: str) -> str:
    """Returns the values, or the names of fields, that would be right; empty where any would."""
    if reason.startswith("Object contains unknown field") and not field:
        return ", ".join(get_type_hints(form))
    hint = get_type_hints(form).get(field)
    return ", ".join(map(str, get_args(hint))) if get_origin(hint) is Literal else ""


def _plain(reason: str) -> str:
    """Returns msgspec's reason in the words of this suite.

    >>> _plain("Object missing required field `a`"), _plain("Expected `str`, got `int`")
    ("'a' is missing", 'expected str, got int')
    """
    words = re.sub(r"Object missing required field `(.*)`", r"'\1' is missing", reason)
    words = re.sub(r"Object contains unknown field `(.*)`", r"unknown field '\1'", words)
    words = words.replace("`", "").replace("Invalid enum value", "unknown value")
    words = words.replace("Invalid RFC3339 encoded date", "is no date, as in 2026-11-27")
    return words[:1].lower() + words[1:]


def _shallow(content: Any, what: str) -> Any:
    if _is_deeper(content, DEEPEST):
        raise UsageError(f"{what}: lists and tables stand more than {DEEPEST} deep in it")
    return content


def _is_deeper(content: Any, depth: int) -> bool:
    if type(content) is dict:
        content = content.values()
    elif type(content) is not list:
        return False
    return depth == 0 or any(_is_deeper(item, depth - 1) for item in content)


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that is too large")
    return number


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
