"""A console for tables: as wide as they are where nobody's window says how wide that may be."""

from rich.console import Console

WIDTH = 160  # cuts the name of no implementation short


def unfolded(console: Console, width: int = WIDTH) -> Console:
    """The console itself on a terminal; in a pipe the same stream, that wide and without colour."""
    if console.is_terminal:
        return console
    return Console(file=console.file, width=width, no_color=True, highlight=False)
