"""Output to a terminal or a pipe: tables at their full width, every character visible."""

import re

from rich.console import Console

# At this width no implementation's name is cut short.
WIDTH = 160
_UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def unfolded(console: Console, width: int = WIDTH) -> Console:
    """Returns a console that does not wrap tables when the output is piped."""
    if console.is_terminal:
        return console
    return Console(file=console.file, width=width, no_color=True, highlight=False)


def visible(text: str) -> str:
    r"""Replaces characters that cannot be seen, or that turn the line around, by their numbers.

    >>> visible("a\u202eb")
    'a⟨U+202E⟩b'
    """
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)
