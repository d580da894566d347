"""How a status, and a name out of a results file, looks to whoever reads the page."""

import re
from collections.abc import Mapping
from urllib.parse import quote

SIGNS: Mapping[str, str] = {
    "exact": "✓",
    "within-bound": "≈",
    "known": "K",
    "fail": "✗",
    "error": "E",
    "crash": "C",
    "timeout": "T",
    "unsupported": "∅",
    "not-exercised": "○",
}
WORDS: Mapping[str, str] = {
    "exact": "equal bit for bit",
    "within-bound": "inside the derived bound",
    "known": "differs as is on record upstream",
    "fail": "a wrong answer",
    "error": "it raised, or a promised error did not come",
    "crash": "the process died",
    "timeout": "no answer in time",
    "unsupported": "the package, device or framework has no such thing",
    "not-exercised": "it ran, but not the thing that is asked about",
}

_UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def seen(text: str) -> str:
    r"""A text with numbers for characters that cannot be seen, or that turn the line around.

    >>> seen("a\u202eb")
    'a⟨U+202E⟩b'
    """
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def address(text: str) -> str:
    r"""A text inside an address, as the script of the page reads it; half a character is U+FFFD.

    >>> address("a b\udc80/c")
    'a%20b%EF%BF%BD/c'
    """
    return quote(re.sub("[\ud800-\udfff]", "\ufffd", text), safe="/@:")
