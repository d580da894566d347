"""Words from outside, made fit to be printed: one line of bounded length, every character seen.

Messages, names and warnings of code under test, and all texts of files of others, may hold
anything: line feeds that forge a verdict, codes that drive a terminal, commands to a CI server.
Every form calls `one_line`, and then quotes for its own syntax (HTML, XML, Markdown, CSV).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

LINE = 2_000  # Characters of a text in a report.
KEPT = 100_000  # Bytes of a text in results.jsonl.
_BREAKS = re.compile("\r\n|[\t\n\x0b\x0c\r\x85\u2028\u2029]")
# Controls, what turns or joins text, halves of characters, what no XML may hold, and tags.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
# A CI server obeys `::error` where a line begins, after blanks too, and `##[error]` anywhere.
_COMMANDS = (
    (re.compile(r"(?<!\S)::(?=[A-Za-z])"), ": :"),
    (re.compile(r"##(?=[A-Za-z]*\[)"), "# #"),
)


def one_line(text: str, limit: int | None = LINE) -> str:
    r"""Returns a text as one line that commands neither a terminal nor a CI server.

    >>> one_line("wrong\n::error::a\u202eb")
    'wrong : :error::a⟨U+202E⟩b'
    >>> one_line("long" * 1000, 40)
    'longlonglongl … (3987 characters more)'

    Args:
        text: the text.
        limit: how many characters may remain; None for all of them.
    """
    words = text if limit is None else text[: limit + 1]
    if not words.isascii() or not words.isprintable():
        words = _BREAKS.sub(" ", words)
        words = _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", words)
    for command, harmless in _COMMANDS:
        words = command.sub(harmless, words)
    if limit is None or (len(words) <= limit and len(text) <= limit):
        return words
    note = " … ({} characters more)"
    room = limit - len(note) - len(str(len(text)))
    return words[:room] + note.format(max(0, len(text) - room))


def kept(text: str) -> str:
    """Returns a text as a results file keeps it: whole, or its first 100 kB."""
    if len(text) <= KEPT // 4:
        return text
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) <= KEPT:
        return text
    end = KEPT - 100
    while raw[end] & 0xC0 == 0x80:  # The middle of a character.
        end -= 1
    cut = raw[:end].decode("utf-8", "surrogatepass")
    return f"{cut} … ({len(text) - len(cut)} characters more)"


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Returns plain data with every text in it changed, the keys of tables too."""
    match value:
        case str():
            return change(value)
        case Mapping():
            return {each_text(key, change): each_text(item, change) for key, item in value.items()}
        case list():
            return [each_text(item, change) for item in value]
        case tuple():
            return tuple(each_text(item, change) for item in value)
    return value
