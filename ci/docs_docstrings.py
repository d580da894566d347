"""Docstrings as mkdocstrings wants them: examples as code, a contract's words at its signature."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Puts a fence around every paragraph that begins with `>>> `, and moves those of contracts."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fences the examples of an object that griffe has read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Hands the docstring of a callable protocol, which has its `Args:`, to its `__call__`."""
        call = cls.members.get("__call__")
        if isinstance(call, griffe.Function) and call.docstring is None:
            call.docstring, cls.docstring = cls.docstring, None
            if call.docstring is not None:
                call.docstring.parent = call


def fenced(docstring: str) -> str:
    """Returns a docstring whose examples Markdown takes for code."""
    return EXAMPLE.sub(r"```pycon\n\g<0>\n```", docstring)
