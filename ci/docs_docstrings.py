"""Examples in docstrings, which stand there as doctests without a heading, shown as code."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts a fence around every paragraph that begins with `>>> `."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fences the examples of an object that griffe has read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """Returns a docstring whose examples Markdown takes for code."""
    return EXAMPLE.sub(r"```pycon\n\g<0>\n```", docstring)
