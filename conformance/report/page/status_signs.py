"""The signs of statuses, for a reader who sees no colour, and texts as parts of an address."""

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


def address(text: str) -> str:
    r"""Quotes a text for an address, as the page's script reads it; half a character is U+FFFD.

    >>> address("a b\udc80/c")
    'a%20b%EF%BF%BD/c'
    """
    return quote(re.sub("[\ud800-\udfff]", "\ufffd", text), safe="/@:")
